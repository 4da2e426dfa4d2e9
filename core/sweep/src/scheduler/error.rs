//! Errors of schedulers.

use std::io;
use std::path::{Path, PathBuf};

/// Failure of a scheduler. A job that fails is reported as a [`JobEnd`](crate::scheduler::JobEnd) instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// A job is invalid, requests more than there is, or repeats another's name.
    #[error("job `{job}`: {reason}")]
    Job {
        /// Name of the job.
        job: String,
        /// Cause and remedy.
        reason: String,
    },
    /// A Slurm program failed.
    #[error("{program} {reason}")]
    Slurm {
        /// Name of the program.
        program: &'static str,
        /// Exit status and standard error, or why it did not start.
        reason: String,
    },
    /// A request to Ray's job server failed.
    #[error("Ray at {address}: {reason}")]
    Ray {
        /// Address of the dashboard.
        address: String,
        /// Cause.
        reason: String,
    },
    /// The state folder is a relative path.
    #[error("the folder {0} of the scheduler's state must be an absolute path")]
    State(PathBuf),
    /// A state file cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// Operation: `read`, `write`, ...
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl SchedulerError {
    pub(crate) fn job(job: &str, reason: impl Into<String>) -> Self {
        Self::Job { job: job.to_owned(), reason: reason.into() }
    }

    /// Adds a remedy to a Slurm program's error that says `what`.
    pub(crate) fn with_hint(self, what: &str, hint: impl FnOnce() -> String) -> Self {
        match self {
            Self::Slurm { program, reason } if reason.contains(what) => {
                Self::Slurm { program, reason: format!("{reason}; {}", hint()) }
            }
            error => error,
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}
