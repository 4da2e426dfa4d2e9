//! Error types of components ([`ComponentError`]) and of runs ([`Error`]).

use std::error::Error as StdError;
use std::path::PathBuf;

/// A boxed error of any type: whatever the component's own code returns.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Error of a component's call.
///
/// The variant decides what the run does: [`BadInput`](Self::BadInput) quarantines the sample and the run
/// continues; every other variant stops the run in a state from which it can be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// This input cannot be processed, others may be. The sample is quarantined with this reason.
    #[error("{0}")]
    BadInput(#[source] Cause),
    /// The component failed for a reason that is not this input. The run stops.
    #[error("{0}")]
    Failed(#[source] Cause),
    /// The component panicked; holds the panic message. The run stops.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The call was abandoned because the run is being cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl ComponentError {
    /// Creates a [`BadInput`](Self::BadInput) from an error or a message.
    pub fn bad_input(cause: impl Into<Cause>) -> Self {
        Self::BadInput(cause.into())
    }

    /// Creates a [`Failed`](Self::Failed) from an error or a message.
    pub fn failed(cause: impl Into<Cause>) -> Self {
        Self::Failed(cause.into())
    }
}

/// Error of the loop, the registry, the config engine or the run store.
///
/// Messages are complete sentences for users: they name the file, key or component and the remedy. Programs
/// match on the variant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config, or data that the config names, is invalid. The message names file, key and remedy.
    #[error("{0}")]
    Config(String),
    /// A component could not be built from its config section.
    #[error("cannot build {kind} `{name}`: {cause}")]
    Build {
        /// Config section of the component (`judge`, `policy`, ...).
        kind: &'static str,
        /// Registered name of the component.
        name: String,
        /// The component's own error.
        #[source]
        cause: Cause,
    },
    /// A component's call failed with anything but [`ComponentError::BadInput`] and
    /// [`ComponentError::Cancelled`].
    #[error("{stage}, {subject}: {source}")]
    Component {
        /// Stage of the run, for example `iteration 2, judge`.
        stage: String,
        /// The sample, video or training step that was being processed.
        subject: String,
        /// The component's error.
        source: ComponentError,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// Verb for the message: `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file of the run directory does not parse, or contradicts another one.
    #[error("{path} is damaged: {reason}; move the run aside, or restore the file from a copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with the content.
        reason: String,
    },
    /// The directory is locked by another process.
    #[error("{path} is in use by another process; wait for it, or choose another --out")]
    Locked {
        /// The run's or the sweep's directory.
        path: PathBuf,
    },
    /// The run directory was removed, moved or replaced while the run was at work.
    #[error(
        "{path} was removed, moved or replaced while the run was at work, and what was written since is lost; \
         start it again"
    )]
    Removed {
        /// The run directory.
        path: PathBuf,
    },
    /// The disk is full, or a quota or a limit of file sizes is reached.
    #[error("cannot write {path}: {reason}; make room, and the same command continues the run")]
    NoSpace {
        /// The file or directory.
        path: PathBuf,
        /// What is needed, what is free and where, and the operating system's error.
        reason: String,
    },
    /// The run directory belongs to a run with a different config, or with different data or weights.
    #[error(
        "{path} holds a run with another config ({difference}); choose another --out, or repeat the \
         config that it was started with"
    )]
    OtherRun {
        /// The run directory.
        path: PathBuf,
        /// The first key that differs, with both values.
        difference: String,
    },
    /// The quarantined share of an iteration's samples exceeds `loop.quarantine_limit`.
    #[error(
        "{quarantined} of {total} samples are quarantined in {stage}, more than the share of {limit} \
         that `loop.quarantine_limit` allows; the first reason: {first}"
    )]
    TooManyQuarantined {
        /// Stage of the run, for example `iteration 2, respond`.
        stage: String,
        /// Samples quarantined by this stage.
        quarantined: usize,
        /// Samples of this iteration.
        total: usize,
        /// The configured limit, in [0, 1].
        limit: f64,
        /// Subject and reason of the first quarantined sample.
        first: String,
    },
    /// Selection dropped every candidate, so there are no preference pairs to train on.
    #[error(
        "iteration {iteration}: selection kept no pair of {candidates} candidates ({reasons}); loosen \
         `selection`, or add samples"
    )]
    NoPairs {
        /// The iteration, from 1.
        iteration: u32,
        /// Number of dropped candidates.
        candidates: usize,
        /// Reasons with counts.
        reasons: String,
    },
    /// The run was cancelled through its token. Starting it again resumes it.
    #[error("stopped on request; the same command continues the run")]
    Cancelled,
}

impl Error {
    /// Creates an [`Error::Io`] from the failed action (`read`, `write`, `create`, ...), the path and the cause.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
