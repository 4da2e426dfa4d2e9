//! Errors of `isr-ffmpeg`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Errors of locating and running `ffmpeg`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FfmpegError {
    /// No ffmpeg in any of the searched locations.
    #[error(
        "ffmpeg was not found: run `cargo xtask setup`, or install it (Debian: apt-get install ffmpeg), \
         or set ISR_FFMPEG"
    )]
    NotFound,
    /// `ISR_FFMPEG` is not the path of an executable file.
    #[error("ISR_FFMPEG is `{0}`, which is no executable file: correct it, or unset it")]
    NotExecutable(PathBuf),
    /// The program cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Path of the program.
        program: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The program exceeded its wall-clock limit, given here, and was killed.
    #[error("ffmpeg was stopped after {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// I/O error on the pipes to the program.
    #[error("lost the connection to ffmpeg: {0}")]
    Pipe(#[source] io::Error),
}
