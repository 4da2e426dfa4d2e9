//! Errors of exports.

use std::path::PathBuf;

/// Failure of an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The path is not a run directory.
    #[error(
        "{path} is not a run directory: it has no `iteration-01`; give the folder that a run was written to"
    )]
    NotARun {
        /// The path as given.
        path: PathBuf,
    },
    /// The requested iteration does not exist.
    #[error("{run} has no pairs of iteration {iteration}; it has those of {there}")]
    NoIteration {
        /// The run.
        run: PathBuf,
        /// Requested iteration.
        iteration: u32,
        /// Existing iterations.
        there: String,
    },
    /// No pair is left to write.
    #[error("{run} has no pairs to export; {left_out} were left out")]
    NoPairs {
        /// The run.
        run: PathBuf,
        /// Number of pairs left out.
        left_out: usize,
    },
    /// The responses of a verdict are missing.
    #[error(
        "{run}, iteration {iteration}: there are no two answers of sample `{sample}` as its verdict says; restore responses.jsonl from a copy"
    )]
    NoResponses {
        /// The run.
        run: PathBuf,
        /// The iteration.
        iteration: u32,
        /// The sample.
        sample: String,
    },
    /// The trainer does not accept the file's extension.
    #[error("{path}: {format} reads files that end in `.jsonl` or `.json`; choose such a name")]
    Name {
        /// The file to write.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
    },
    /// `dataset_info.json` beside the file is not a JSON object.
    #[error("cannot add to {path}: {reason}; mend it, or choose a file in another folder")]
    DatasetInfo {
        /// The list.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// Frames were requested for a format without a column of images.
    #[error("{format} reads videos; leave out --frames, which is for trl")]
    NoPictures {
        /// The format's name.
        format: &'static str,
    },
    /// An image or a folder could not be written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The picture or the folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] isr_api::Error),
}

impl ExportError {
    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
