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
    /// Device without enough memory: the work under way, libtorch's numbers, and what to change.
    #[error("not enough memory {work}: {numbers}; {remedy}")]
    OutOfMemory {
        /// Work under way: `while ...`.
        work: &'static str,
        /// libtorch's message.
        numbers: String,
        /// Config keys to change.
        remedy: String,
    },
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
    /// Group of processes that could not be joined, or that has lost one: rank, host, cause and remedy.
    #[error("{0}")]
    Group(String),
    /// Failure of one of several processes that train together; all fail with it.
    #[error("process {rank}: {message}")]
    Process {
        /// Rank of the process.
        rank: usize,
        /// Its error.
        message: String,
    },
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

    /// Returns whether libtorch could not allocate memory.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        let Self::Tensor(error) = self else { return matches!(self, Self::OutOfMemory { .. }) };
        let text = error.to_string();
        // Of CUDA's allocator, and of that for CPUs.
        text.contains("out of memory") || text.contains("can't allocate memory")
    }

    /// Adds work and remedy to an error about memory; returns others as they are.
    pub(crate) fn with_remedy(self, work: &'static str, remedy: impl FnOnce() -> String) -> Self {
        match self {
            Self::Tensor(ref error) if self.is_out_of_memory() => {
                let text = error.to_string();
                // A stack follows, and advice on PyTorch's settings.
                let end = ["\n", " If reserved but unallocated", " See documentation"];
                let end = end.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
                Self::OutOfMemory { work, numbers: text[..end].to_owned(), remedy: remedy() }
            }
            other => other,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_memory_says_how_much_and_what_to_change() {
        let cuda = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which \
                    1.20 GiB is free. If reserved but unallocated memory is large try setting ...\nException raised from";
        let cpu = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
                   allocate 8000000000 bytes. Error code 12 (Cannot allocate memory)\nframe #0";
        for (text, numbers) in [(cuda, "1.20 GiB is free."), (cpu, "8000000000 bytes. Error code 12")] {
            let error = TorchError::Tensor(tch::TchError::Torch(text.to_owned()));
            assert!(error.is_out_of_memory());
            let shown = error.with_remedy("while training", || "lower x".to_owned()).to_string();
            assert!(shown.contains(numbers) && shown.ends_with("; lower x"), "{shown}");
            assert!(!shown.contains('\n') && !shown.contains("reserved"), "{shown}");
        }
        let other = TorchError::Tensor(tch::TchError::Torch("shapes differ".to_owned()));
        assert!(!other.is_out_of_memory());
        assert!(other.with_remedy("", String::new).to_string().contains("shapes differ"));
    }
}
