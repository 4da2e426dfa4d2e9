//! Sandboxed execution of the program `ffmpeg`: [`locate()`] finds it, [`run()`] runs it under limits,
//! [`version()`] tells which build it is.
//!
//! ffmpeg decodes untrusted files in C, so it runs in a process of its own with limits on time, memory and
//! output. It cannot outlive, stall or exhaust its caller, and a crash is an exit status.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod error;
mod lines;
mod locate;
mod run;
mod shortage;
mod version;

pub use error::FfmpegError;
pub use locate::locate;
pub use run::{Ending, Limits, Outcome, run};
pub use shortage::{memory_is_short, remedy_for, remedy_for_message};
pub use version::version;
