//! Errors of sweeps.

use std::path::PathBuf;

/// Error of a sweep as a whole. A run that fails is reported in [`Results`](crate::Results) instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The sweep file is invalid. The message names file, key and remedy.
    #[error("{0}")]
    Unusable(String),
    /// The sweep's folder holds runs of an arm whose config has changed.
    #[error(
        "arm `{arm}` was run with other settings ({difference}) in {run}; choose another --out, undo the change, \
         or remove that folder to run it anew"
    )]
    OtherArm {
        /// The arm.
        arm: String,
        /// Its run directory.
        run: PathBuf,
        /// First key that differs, with both values.
        difference: String,
    },
    /// A run's file cannot be read or written.
    #[error(transparent)]
    Core(#[from] isr_api::Error),
    /// `sweep.html` could not be rendered.
    #[error(transparent)]
    Page(#[from] isr_analysis::report::ReportError),
    /// The scheduler cannot run jobs.
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
    /// `metrics.parquet` could not be written.
    #[error("cannot write {path}: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Error of the Parquet writer.
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
