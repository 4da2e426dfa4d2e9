//! Video decoding and frame sampling: the component `video.type = "ffmpeg"`.
//!
//! | to read | where |
//! |---|---|
//! | what a config says | [`FfmpegConfig`] (`config.rs`) |
//! | which frames of a video are taken | [`Sampling`] (`sampling.rs`) |
//! | a video file's way to frames | `clip.rs`, with `command.rs` (what ffmpeg is told), `log.rs` (what it says) |
//! | a folder's way to frames | `folder.rs`, with `image.rs` (PNG and JPEG) |
//! | what can be wrong with a video | [`VideoError`] (`error.rs`) |
//!
//! # Why a process
//!
//! Video comes from the web, and its decoders are a million lines of C. In a process of its own, with a
//! limit on time, memory and output, a hostile or damaged file costs that one sample. Linking the same
//! libraries saves about 60 ms a clip; features are cached, so each clip pays that once.
//!
//! # Why no seeking
//!
//! A sampling contract names frames by index. Container metadata says how many there are, and is wrong
//! often enough; seeking lands where the index of the file says, which differs between versions. So
//! frames are counted by decoding them. What that buys is that the same file gives the same frames on
//! every machine, and that damage is seen, not skipped over.
//!
//! # What is refused
//!
//! ffmpeg's idea of success is generous: of a truncated or corrupted file it returns what it can, with
//! exit status zero. Here a single error in its log refuses the file, unless `allow_damaged` says
//! otherwise. One thing cannot be seen: that a stream without length or index (MPEG-TS, Ogg, GIF) was
//! cut between two frames. It is then a shorter video.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod clip;
mod command;
mod config;
mod error;
mod folder;
mod image;
mod log;
mod reader;
mod sampling;

pub use config::FfmpegConfig;
pub use error::VideoError;
pub use sampling::Sampling;
