//! Errors of `isr-world`.

use std::path::PathBuf;

use isr_api::ComponentError;

/// What can go wrong in making and reading the world's data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// A setting is out of range.
    #[error("{0}")]
    Config(String),
    /// The folder holds clips of another world.
    #[error(
        "{dir} holds clips of another world ({difference}); choose another `data.dir`, or repeat the \
         settings that it was made with"
    )]
    OtherWorld {
        /// The folder.
        dir: PathBuf,
        /// The first setting that differs, and both values.
        difference: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file could not be replaced.
    #[error(transparent)]
    Store(#[from] isr_api::Error),
    /// A file is not what it should be.
    #[error("{path} is damaged: {reason}; remove it, and it is made again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no ffmpeg.
    #[error("clips cannot be rendered: {0}")]
    NoFfmpeg(#[from] isr_ffmpeg::FfmpegError),
    /// ffmpeg was found and could not encode.
    #[error("{program} could not encode clips {first} to {last}: {reason}")]
    Encode {
        /// The ffmpeg that was run.
        program: PathBuf,
        /// The batch's first clip.
        first: String,
        /// The batch's last clip.
        last: String,
        /// The end of what it said, or its exit status.
        reason: String,
    },
    /// A prompt template is not valid, or does not render.
    #[error("template `{name}`: {reason}")]
    Template {
        /// The setting that holds it.
        name: &'static str,
        /// The engine's message.
        reason: String,
    },
}

impl WorldError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl From<WorldError> for ComponentError {
    fn from(error: WorldError) -> Self {
        Self::failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_ffmpeg_says_what_to_do() {
        let message = WorldError::from(isr_ffmpeg::FfmpegError::NotFound).to_string();
        assert!(message.starts_with("clips cannot be rendered: ffmpeg was not found"), "{message}");
        assert!(message.contains("cargo xtask setup"), "{message}");
    }
}
