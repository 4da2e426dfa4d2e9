//! Errors of `isr-ffmpeg`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::shortage::remedy_for;

/// What to do about a failed start, as the end of a sentence.
fn remedy(source: &io::Error) -> String {
    remedy_for(source).map_or_else(String::new, |remedy| format!("; {remedy}"))
}

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
    /// The only ffmpeg found could have been put there by another user.
    #[error(
        "{program} is not run, as {reason}: correct that, or set ISR_FFMPEG to it to run it all the same"
    )]
    Untrusted {
        /// Path of the program.
        program: PathBuf,
        /// Why it is not trusted.
        reason: String,
    },
    /// `ISR_FFMPEG` is not the path of an executable file.
    #[error("ISR_FFMPEG is `{0}`, which is no executable file: correct it, or unset it")]
    NotExecutable(PathBuf),
    /// The program cannot be started.
    #[error("cannot start {program}: {source}{}", remedy(.source))]
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
