//! The program `ffmpeg`: where it is, and how to run it without trusting what it is given.
//!
//! A library that plugins share, no plugin itself: it registers nothing and knows no type of the loop.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod error;
mod locate;

pub use error::FfmpegError;
pub use locate::locate;
