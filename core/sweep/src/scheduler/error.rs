//! Errors of `isr-schedule`.

use std::io;
use std::path::{Path, PathBuf};

/// Why jobs cannot be run at all. A job that fails is none of these: it is a
/// [`JobEnd`](crate::scheduler::JobEnd).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// A job asks for what cannot be had, or two of them are alike.
    #[error("job `{job}`: {reason}")]
    Job {
        /// The job's name.
        job: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// One of Slurm's programs.
    #[error("{program} {reason}")]
    Slurm {
        /// The program.
        program: &'static str,
        /// What happened, in its own words where it said any.
        reason: String,
    },
    /// Ray's server of jobs.
    #[error("Ray at {address}: {reason}")]
    Ray {
        /// Its address.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The state folder is not an absolute path.
    #[error("the folder {0} of the scheduler's state must be an absolute path")]
    State(PathBuf),
    /// A file of the scheduler's own.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried: `read`, `write`, ...
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

    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}
