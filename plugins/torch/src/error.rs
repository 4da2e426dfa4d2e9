//! Errors of this crate.

use std::path::PathBuf;

use isr_api::ComponentError;

use crate::hub::HubError;

/// Error of models, checkpoints and tensors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// Failed libtorch operation; its message has the shapes.
    #[error("libtorch: {0}")]
    Tensor(#[from] tch::TchError),
    /// File of a checkpoint that could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// Attempted operation: `read`, `write`, ...
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Invalid or unsupported checkpoint; the message names the file and the remedy.
    #[error("{path}: {reason}")]
    Checkpoint {
        /// Path of the file or folder.
        path: PathBuf,
        /// Description of the problem.
        reason: String,
    },
    /// Model name that could not be resolved or downloaded.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Adapter that does not fit the model or its config.
    #[error("{0}")]
    Adapter(String),
    /// Unknown or unavailable device: its name, and the problem.
    #[error("device `{0}` {1}")]
    Device(String, String),
    /// Prompt or video that the model does not accept; a sample's bad input.
    #[error("{0}")]
    Prompt(String),
    /// Logits with NaN or infinity, and where.
    #[error(
        "the model's logits are not finite at {0}: its weights or its input hold NaN or infinity, or the dtype \
         overflows; check the weights, set `precision` to another dtype, or train at a lower learning rate"
    )]
    NotFinite(String),
    /// Failure of the chat template.
    #[error("the chat template failed: {0}")]
    Template(String),
    /// Chat template that exceeds the work, size or depth that a template may take.
    #[error("{path}: the chat template is out of bounds: {reason}")]
    TemplateLimit {
        /// Path of the file.
        path: PathBuf,
        /// The limit.
        reason: String,
    },
    /// Failure of the tokenizer.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// Failure of the objective, or examples that lack what it requires.
    #[error("{0}")]
    Objective(String),
    /// Internal failure, or an engine whose thread has ended.
    #[error("the model's engine has stopped: {0}")]
    Engine(String),
}

impl TorchError {
    /// Wraps an error of the operating system.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Creates an error about a checkpoint.
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
