//! Errors of this crate.

use std::path::PathBuf;

use isr_core::ComponentError;

use crate::hub::HubError;

/// What can go wrong with models, checkpoints and tensors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// libtorch refused an operation; shapes are in its message.
    #[error("libtorch: {0}")]
    Tensor(#[from] tch::TchError),
    /// A checkpoint's file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A checkpoint is not what this crate can use; the message names the file and the remedy.
    #[error("{path}: {reason}")]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A model of the hub that cannot be had.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// An adapter that does not fit the model or its config.
    #[error("{0}")]
    Adapter(String),
    /// A device that is not there.
    #[error("device `{0}` {1}")]
    Device(String, String),
    /// A prompt that the model cannot take.
    #[error("{0}")]
    Prompt(String),
    /// The chat template failed.
    #[error("the chat template failed: {0}")]
    Template(String),
    /// The tokenizer failed.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// The objective failed, or asked for what the examples do not hold.
    #[error("{0}")]
    Objective(String),
    /// The engine's thread is gone.
    #[error("the model's engine has stopped: {0}")]
    Engine(String),
}

impl TorchError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn checkpoint(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.into(), reason: reason.into() }
    }
}

impl From<TorchError> for ComponentError {
    fn from(error: TorchError) -> Self {
        match error {
            TorchError::Prompt(_) => Self::bad_input(error),
            other => Self::failed(other),
        }
    }
}

/// Result of this crate.
pub(crate) type Result<T, E = TorchError> = std::result::Result<T, E>;
