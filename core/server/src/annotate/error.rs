//! What can go wrong with annotations.

use std::path::PathBuf;

/// Why annotations cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotateError {
    /// The path holds no run, or one that has not answered yet.
    #[error(
        "{path} has no iteration with two different answers to a sample; give a run directory whose first \
         stage is complete"
    )]
    NoPairs {
        /// The path as given.
        path: PathBuf,
    },
    /// The iteration asked for has none.
    #[error("iteration {iteration} of {path} has no two different answers to a sample")]
    NoPairsIn {
        /// The run.
        path: PathBuf,
        /// The iteration.
        iteration: u32,
    },
    /// The annotator's name cannot stand in records.
    #[error("--annotator is empty; give a name, which stands in the records")]
    NoName,
    /// Another server writes to the file.
    #[error("{path} is being annotated by another `isr annotate`; end that one first")]
    InUse {
        /// The run.
        path: PathBuf,
    },
    /// A file of the run cannot be read or written.
    #[error(transparent)]
    Store(#[from] isr_api::Error),
    /// A file cannot be locked.
    #[error("cannot lock {path}: {source}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}
