//! Errors of annotation.

use std::path::PathBuf;

/// Reason for which a run cannot be annotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotateError {
    /// No iteration has two different responses to a sample.
    #[error(
        "{path} has no iteration with two different answers to a sample; give a run directory whose first \
         stage is complete"
    )]
    NoPairs {
        /// The path as given.
        path: PathBuf,
    },
    /// The requested iteration has no two different responses to a sample.
    #[error("iteration {iteration} of {path} has no two different answers to a sample")]
    NoPairsIn {
        /// The run.
        path: PathBuf,
        /// The requested iteration.
        iteration: u32,
    },
    /// The annotator's name is empty.
    #[error("--annotator is empty; give a name, which stands in the records")]
    NoName,
    /// Another process holds the lock of the annotations file.
    #[error("{path} is being annotated by another `isr annotate`; end that one first")]
    InUse {
        /// The run.
        path: PathBuf,
    },
    /// A file of the run cannot be read or written, or is damaged.
    #[error(transparent)]
    Store(#[from] isr_api::Error),
    /// The lock file cannot be created or locked.
    #[error("cannot lock {path}: {source}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}
