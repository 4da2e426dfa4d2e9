//! The files of a cache entry.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use isr_api::{Error, Fingerprint, FingerprintBuilder};
use serde::{Deserialize, Serialize};

use crate::store::read_json;

/// Metadata, written last.
pub(super) const META: &str = "entry.json";
/// Results of a stage that has items.
pub(crate) const RESULTS: &str = "results.jsonl";
/// Its quarantined items.
pub(crate) const QUARANTINE: &str = "quarantine.jsonl";
/// Optimiser steps of a training.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// Its checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// `entry.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EntryMeta {
    /// Name of the stage.
    pub(crate) stage: String,
    /// Iteration of the run that published it.
    pub(crate) iteration: u32,
    /// Wall-clock seconds of the session that completed it.
    pub(crate) seconds: f64,
    /// Digest of the other files of the entry; none in entries of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Fingerprint>,
}

/// Reads the metadata of an entry; `None` where there is no entry, or it is damaged.
pub(super) fn read(path: &Path) -> Option<EntryMeta> {
    let checked = || {
        let Some(meta) = read_json::<EntryMeta>(&path.join(META))? else { return Ok(None) };
        let now = meta.digest.as_ref().map(|_| digest(path)).transpose();
        let now = now.map_err(|error| Error::io("read", path, error))?;
        if now == meta.digest {
            return Ok(Some(meta));
        }
        let reason = "its files are not those that were published".to_owned();
        Err(Error::Damaged { path: path.to_owned(), reason })
    };
    checked().unwrap_or_else(|error| {
        tracing::warn!(%error, "this stage is computed anew");
        None
    })
}

/// Digest of the names and contents of an entry's files, without its metadata.
pub(super) fn digest(path: &Path) -> io::Result<Fingerprint> {
    let mut builder = FingerprintBuilder::default();
    add_files(&mut builder, path, &path.join(META))?;
    Ok(builder.finish())
}

fn add_files(builder: &mut FingerprintBuilder, dir: &Path, without: &Path) -> io::Result<()> {
    let mut paths: Vec<_> =
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths.iter().filter(|path| *path != without) {
        builder.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        if path.is_dir() {
            add_files(builder, path, without)?;
        } else {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(path)?)?;
            builder.update(hasher.finalize().as_bytes());
        }
    }
    Ok(())
}

/// Hard-links the files of a directory tree into an existing directory; copies where links are not possible.
/// Run directories never overwrite a file in place, so a linked file cannot change through its other name.
pub(crate) fn link_tree(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from).map_err(|error| Error::io("read", from, error))? {
        let path = entry.map_err(|error| Error::io("read", from, error))?.path();
        let Some(name) = path.file_name() else { continue };
        let into = to.join(name);
        if path.is_dir() {
            fs::create_dir(&into).map_err(|error| Error::io("create", &into, error))?;
            link_tree(&path, &into)?;
        } else if fs::hard_link(&path, &into).is_err() {
            fs::copy(&path, &into).map_err(|error| Error::io("write", &into, error))?;
        }
    }
    Ok(())
}
