//! Files of a dataset: one, several, or folders of shards.

use std::fs;
use std::path::{Path, PathBuf};

use isr_config::did_you_mean;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// Endings of files in a folder of shards.
const ENDINGS: [&str; 4] = ["jsonl", "json", "ndjson", "parquet"];

/// A path, or a list of paths that are read one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One file or folder.
    One(PathBuf),
    /// Several of them.
    Several(Vec<PathBuf>),
}

impl Paths {
    fn all(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }

    /// Checks that there are paths and that they exist; the message names the key.
    pub(crate) fn validate(&self, key: &str) -> Result<(), String> {
        if self.all().is_empty() {
            return Err(format!("{key} is empty; it must name a file or a folder"));
        }
        match self.all().iter().find(|path| !path.exists()) {
            Some(path) => {
                Err(format!("{key} is {}, which does not exist{}", path.display(), did_you_mean(path)))
            }
            None => Ok(()),
        }
    }

    /// Files in the order of the paths; those of a folder by name.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, DataError> {
        let mut files = Vec::new();
        for path in self.all() {
            match path.is_dir() {
                true => files.extend(shards(path)?),
                false => files.push(path.clone()),
            }
        }
        Ok(files)
    }
}

fn shards(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = fs::read_dir(folder).map_err(DataError::io(folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(DataError::io(folder))?.path();
        // LLaMA-Factory's index of datasets lies beside them.
        let is_index = path.file_name().is_some_and(|name| name == "dataset_info.json");
        if ENDINGS.iter().any(|ending| has_ending(&path, ending)) && !is_index {
            files.push(path);
        }
    }
    if files.is_empty() {
        let wanted = format!("file that ends in .{}", ENDINGS.join(", ."));
        return Err(DataError::Nothing { path: folder.to_owned(), wanted });
    }
    files.sort();
    Ok(files)
}

/// Whether a file's name ends so, in any case.
pub(crate) fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|it| it.eq_ignore_ascii_case(ending))
}
