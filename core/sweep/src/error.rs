//! Errors of sweeps.

use std::path::PathBuf;

/// What can go wrong with a sweep as a whole; a run that fails is no such error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The sweep file cannot be used; the message names file, key and remedy.
    #[error("{0}")]
    Unusable(String),
    /// The sweep's folder holds runs of an arm that the file now describes differently.
    #[error(
        "arm `{arm}` was run with other settings ({difference}) in {run}; choose another --out, undo the change, \
         or remove that folder to run it anew"
    )]
    OtherArm {
        /// The arm.
        arm: String,
        /// Its run directory.
        run: PathBuf,
        /// The first key that differs, and both values.
        difference: String,
    },
    /// A component that makes data, or a file of a run.
    #[error(transparent)]
    Core(#[from] isr_api::Error),
    /// The page could not be made.
    #[error(transparent)]
    Page(#[from] isr_analysis::report::ReportError),
    /// Runs cannot be run at all.
    #[error(transparent)]
    Schedule(#[from] crate::scheduler::SchedulerError),
    /// A file of the sweep could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The table of metrics could not be written.
    #[error("cannot write {path}: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        source: parquet::errors::ParquetError,
    },
}

impl SweepError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
