//! Errors of `isr-ffmpeg`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

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
    /// The program did not start.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The program ran past its time limit, and was killed.
    #[error("ffmpeg was stopped after {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The pipes to the program broke.
    #[error("lost the connection to ffmpeg: {0}")]
    Pipe(#[source] io::Error),
}
