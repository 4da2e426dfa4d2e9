//! The program `ffmpeg`: where it is, and how to run it without trusting what it is given.
//!
//! A library that plugins share, no plugin itself: it registers nothing and knows no type of the loop.
//!
//! A decoder of a hundred formats in C is the part of this system that meets hostile bytes, so it runs
//! as its own process and under limits: it cannot outlive its caller, stall it, or fill its memory, and
//! a crash of it is an exit status. [`run()`] is that one door; [`locate()`] finds the program.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod error;
mod lines;
mod locate;
mod run;

pub use error::FfmpegError;
pub use locate::locate;
pub use run::{Ending, Limits, Outcome, run};
