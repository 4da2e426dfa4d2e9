//! What can go wrong while a run is exported.

use std::path::PathBuf;

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The path holds no run.
    #[error(
        "{path} is not a run directory: it has no `iteration-01`; give the folder that a run was written to"
    )]
    NotARun {
        /// The path as given.
        path: PathBuf,
    },
    /// The run has no such iteration.
    #[error("{run} has no pairs of iteration {iteration}; it has those of {there}")]
    NoIteration {
        /// The run.
        run: PathBuf,
        /// The iteration that was asked for.
        iteration: u32,
        /// The iterations that there are.
        there: String,
    },
    /// There is nothing to write.
    #[error("{run} has no pairs to export; {left_out} were left out")]
    NoPairs {
        /// The run.
        run: PathBuf,
        /// Pairs that the format does not take.
        left_out: usize,
    },
    /// A verdict is about answers that the run does not have.
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
    /// The trainer would not open a file of that name.
    #[error("{path}: {format} reads files that end in `.jsonl` or `.json`; choose such a name")]
    Name {
        /// The file to write.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
    },
    /// The list of data sets beside the file is no JSON object.
    #[error("cannot add to {path}: {reason}; mend it, or choose a file in another folder")]
    DatasetInfo {
        /// The list.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// Pictures were asked for by a format that has no place for them.
    #[error("{format} reads videos; leave out --frames, which is for trl")]
    NoPictures {
        /// The format's name.
        format: &'static str,
    },
    /// A picture or a folder could not be written.
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
