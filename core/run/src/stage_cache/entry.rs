//! An entry's files.

use std::fs;
use std::path::Path;

use isr_api::Error;
use serde::{Deserialize, Serialize};

use crate::store::read_json;

/// Says that the entry is whole, and what it is.
pub(super) const MADE: &str = "entry.json";
/// Results of a stage of items.
pub(crate) const RESULTS: &str = "results.jsonl";
/// What it gave up.
pub(crate) const QUARANTINE: &str = "quarantine.jsonl";
/// Optimiser steps.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// What they led to.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// `entry.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Made {
    /// The stage.
    pub(crate) stage: String,
    /// The iteration of the run that left it.
    pub(crate) iteration: u32,
    /// Seconds that it took there, in its last session.
    pub(crate) seconds: f64,
}

/// What an entry is; `None` where there is none.
pub(super) fn read(path: &Path) -> Option<Made> {
    read_json(&path.join(MADE)).unwrap_or_else(|error| {
        tracing::warn!(%error, "this stage is computed anew");
        None
    })
}

/// The files of a folder under another one that exists: the same ones where the system can, else copies. Nothing
/// in a run is ever overwritten in place, so that one of two names cannot change what stands under the other.
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
