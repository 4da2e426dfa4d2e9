//! The files of a cache entry.

use std::fs;
use std::path::Path;

use isr_api::Error;
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
}

/// Reads the metadata of an entry; `None` where there is no entry, or it cannot be read.
pub(super) fn read(path: &Path) -> Option<EntryMeta> {
    read_json(&path.join(META)).unwrap_or_else(|error| {
        tracing::warn!(%error, "this stage is computed anew");
        None
    })
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
