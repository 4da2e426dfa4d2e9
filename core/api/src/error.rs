//! Errors of components and of runs.

use std::error::Error as StdError;
use std::path::PathBuf;

/// A cause, of whatever type the plugin uses.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// What a component reports when it cannot do what it was asked.
///
/// The variant decides what becomes of the run: [`BadInput`](Self::BadInput) quarantines the sample
/// and goes on, everything else stops the run in a state that can be continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// This input cannot be processed; another may. The sample is quarantined with the reason.
    #[error("{0}")]
    BadInput(#[source] Cause),
    /// The component cannot go on.
    #[error("{0}")]
    Failed(#[source] Cause),
    /// The component panicked; the message is the panic's.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The run is being stopped.
    #[error("cancelled")]
    Cancelled,
}

impl ComponentError {
    /// The input is at fault.
    pub fn bad_input(cause: impl Into<Cause>) -> Self {
        Self::BadInput(cause.into())
    }

    /// The component is at fault.
    pub fn failed(cause: impl Into<Cause>) -> Self {
        Self::Failed(cause.into())
    }
}

/// What can go wrong in the loop, the registry, the config and the run store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config is wrong; the message names file, key and remedy.
    #[error("{0}")]
    Config(String),
    /// A component could not be built.
    #[error("cannot build {kind} `{name}`: {cause}")]
    Build {
        /// The kind of component, as in the config (`judge`, `policy`, ...).
        kind: &'static str,
        /// The component's registered name.
        name: String,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
    /// A component failed while running.
    #[error("{stage}, {subject}: {source}")]
    Component {
        /// The stage that was under way.
        stage: String,
        /// The sample, video or step that was being processed.
        subject: String,
        /// What the component said.
        source: ComponentError,
    },
    /// A file of the run could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file of the run does not hold what it should.
    #[error("{path} is damaged: {reason}; move the run aside, or restore the file from a copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The run directory belongs to a run with another config.
    #[error(
        "{path} holds a run with another config ({difference}); choose another --out, or repeat the \
         config that it was started with"
    )]
    OtherRun {
        /// The run directory.
        path: PathBuf,
        /// The first key that differs, and both values.
        difference: String,
    },
    /// Too many samples were quarantined.
    #[error(
        "{quarantined} of {total} samples are quarantined in {stage}, more than the share of {limit} \
         that `loop.quarantine_limit` allows; the first reason: {first}"
    )]
    TooManyQuarantined {
        /// The stage that gave up.
        stage: String,
        /// Samples quarantined in this iteration.
        quarantined: usize,
        /// Samples of this iteration.
        total: usize,
        /// The configured share.
        limit: f64,
        /// The first sample's reason.
        first: String,
    },
    /// No pair survived selection, so there is nothing to train on.
    #[error(
        "iteration {iteration}: selection kept no pair of {candidates} candidates ({reasons}); loosen \
         `selection`, or add samples"
    )]
    NoPairs {
        /// The iteration.
        iteration: u32,
        /// How many verdicts there were.
        candidates: usize,
        /// Why they were dropped, with counts.
        reasons: String,
    },
    /// The run was asked to stop; it can be continued.
    #[error("stopped on request; the same command continues the run")]
    Cancelled,
}

impl Error {
    /// An [`Error::Io`]: what could not be done (`read`, `write`, `create`, ...) with which file.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
