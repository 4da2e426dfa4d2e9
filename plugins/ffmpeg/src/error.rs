//! Errors of `isr-ffmpeg`.

use std::path::PathBuf;

/// What can go wrong in finding and running `ffmpeg`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FfmpegError {
    /// There is no ffmpeg in any place that is searched.
    #[error(
        "ffmpeg was not found: run `cargo xtask setup`, or install it (Debian: apt-get install ffmpeg), \
         or set ISR_FFMPEG"
    )]
    NotFound,
    /// `ISR_FFMPEG` names something that cannot be run.
    #[error("ISR_FFMPEG is `{0}`, which is no executable file: correct it, or unset it")]
    NotExecutable(PathBuf),
}
