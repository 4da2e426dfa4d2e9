//! Video decoding and frame sampling: the component `video.type = "ffmpeg"`.
//!
//! | topic | module |
//! |---|---|
//! | config | [`FfmpegConfig`] (`config.rs`), registered in `component.rs` |
//! | frame sampling | [`FrameSampling`] (`sampling.rs`) |
//! | decoding of video files | `clip.rs`, with `command.rs` (arguments of ffmpeg) and `log.rs` (its log) |
//! | reading of folders of frames | `folder.rs`, with `image.rs` (PNG and JPEG) |
//! | errors | [`VideoError`] (`error.rs`) |
//!
//! # Why a separate process
//!
//! Videos come from the web, and their decoders are a million lines of C. In a process with limits on time,
//! memory and output, a hostile or damaged file costs one sample. Linking the libraries would save about 60 ms
//! per clip, once, as features are cached.
//!
//! # Why no seeking
//!
//! Sampling rules refer to frames by index. Frame counts in container metadata are often wrong, and seeking
//! depends on the file's index and on the version of ffmpeg. Counting frames by decoding gives the same frames
//! for a file on every machine, and detects damage.
//!
//! # What is refused
//!
//! For a truncated or corrupted file ffmpeg returns what it can decode, with exit status zero. Here a single
//! error in its log refuses the file, unless `allow_damaged` is set. One case is undetectable: a stream without
//! length or index (MPEG-TS, Ogg, GIF) that was cut between two frames. It is read as a shorter video.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod clip;
mod command;
mod component;
mod config;
mod error;
mod folder;
mod image;
mod log;
mod reader;
mod sampling;

pub use config::FfmpegConfig;
pub use error::VideoError;
pub use sampling::FrameSampling;
