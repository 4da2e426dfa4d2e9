//! Errors of a plugin's process.

use std::time::Duration;
use std::{fmt, io};

/// The cause of a [`SessionError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionErrorKind {
    /// The executable cannot be started.
    #[error("cannot start `{executable}`: {cause}")]
    NotStarted {
        /// What was to be started.
        executable: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// It ended by itself.
    #[error("the process ended ({0})")]
    Ended(String),
    /// It was silent for too long.
    #[error("no answer within {} s{what}; the process was ended", .limit.as_secs_f64())]
    Silent {
        /// The limit.
        limit: Duration,
        /// What was waited for, where it is not the call.
        what: &'static str,
    },
    /// It wrote something that is no message.
    #[error("it wrote a line that is no message of the protocol ({reason}): `{line}`")]
    NoMessage {
        /// The beginning of the line.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It wrote a line that is too long.
    #[error("it wrote a line of more than {limit} bytes")]
    LongLine {
        /// The limit.
        limit: usize,
    },
    /// It wrote too much before it said hello.
    #[error("it wrote more than {limit} bytes before its hello")]
    Flood {
        /// The limit.
        limit: usize,
    },
    /// It broke the protocol.
    #[error("it broke the protocol: {0}")]
    Protocol(String),
    /// It does not declare the component that is wanted.
    #[error("{0}")]
    Undeclared(String),
    /// The batch is none that can be sent.
    #[error("{0}")]
    Batch(String),
    /// What it answered cannot be used.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
    /// It reported an error.
    #[error("{message}")]
    Reported {
        /// `bad_input`, or another code.
        code: String,
        /// What it said.
        message: String,
    },
    /// It has ended too often.
    #[error("the process has been started again {restarts} times without an answer; the last time: {last}")]
    Restarts {
        /// How often it may.
        restarts: u32,
        /// Why it ended the last time.
        last: String,
    },
    /// It has ended with weights that no new process has.
    #[error(
        "{last}; its weights were those of a training and are gone with it: start the command again, which goes on \
         from the last checkpoint"
    )]
    Lost {
        /// Why it ended.
        last: String,
    },
    /// Its session is over.
    #[error("its session has ended")]
    Closed,
}

impl SessionErrorKind {
    /// Whether the error is due to the case, so that its sample is quarantined: the plugin said so, its answer
    /// cannot be used, or the call ended the process when it was retried alone.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Reported { code, .. } => code == "bad_input",
            Self::NotStarted { .. }
            | Self::Restarts { .. }
            | Self::Lost { .. }
            | Self::Closed
            | Self::Undeclared(_) => false,
            _ => true,
        }
    }
}

/// An error of a plugin's process, with the end of its stderr.
#[derive(Debug, thiserror::Error)]
pub struct SessionError {
    /// The cause.
    #[source]
    pub kind: SessionErrorKind,
    /// Its last lines on stderr, oldest first; empty for an error that the plugin reported itself.
    pub stderr_tail: Vec<String>,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match self.stderr_tail.as_slice() {
            [] => Ok(()),
            lines => write!(f, "; its last lines on stderr: {}", lines.join(" | ")),
        }
    }
}

impl From<SessionErrorKind> for SessionError {
    fn from(kind: SessionErrorKind) -> Self {
        Self { kind, stderr_tail: Vec::new() }
    }
}
