//! Video decoding and frame sampling: the component `video.type = "ffmpeg"`.
//!
//! | topic | module |
//! |---|---|
//! | config | [`FfmpegConfig`] (`config.rs`), registered in `component.rs` |
//! | frame sampling | [`FrameSampling`] (`sampling.rs`), of segments: `segments.rs`, of a part of a video: `part.rs` |
//! | decoding of video files | `clip.rs`, with `command.rs` (arguments of ffmpeg), `log.rs` (its log), `clock.rs` (time limit) |
//! | seeking in long files | `seek.rs`, with `index.rs` (their packets) |
//! | reading of pictures | `picture.rs` |
//! | reading of folders of frames | `folder.rs`, with `order.rs` (by names), `image.rs` (PNG) and `jpeg.rs` |
//! | errors | [`VideoError`] (`error.rs`) |
//!
//! # Why a separate process
//!
//! Videos come from the web, and their decoders are a million lines of C. In a process with limits on time,
//! memory and output, a hostile or damaged file costs one sample. Linking the libraries would save about 60 ms
//! per clip, once, as features are cached.
//!
//! # Which frames are decoded
//!
//! Sampling rules refer to frames by index. Frame counts in container metadata are often wrong, and seeking
//! depends on the file's index and on the version of ffmpeg. Counting frames by decoding gives the same frames
//! for a file on every machine, and detects damage. A video of a minute and more in MP4, MOV, Matroska or WebM is sought
//! in: the timestamps of all packets tell the frames, and each sampled frame is decoded from
//! the key frame before it. Every frame from there on is compared with the packets by its timestamp; where one differs, or
//! the decoder reports an error, the video is decoded from its start. Damage in frames that are not decoded goes
//! unnoticed, unless `seek` is false.
//!
//! # What is refused
//!
//! For a truncated or corrupted file ffmpeg returns what it can decode, with exit status zero. Here an error in
//! its log makes the file suspect. A suspect file is decoded once more, with a log of its packets and frames, and
//! is refused unless all errors concern pictures before the first frame that can be shown (as in a clip that was
//! cut out of a longer one by stream copy), the list of reference frames, or sound, and no packet behind that
//! frame is without its frame. Such a file is read with a warning. With `allow_damaged` every file is
//! read as far as it can be decoded.
//!
//! Damage without an error in the log is undetectable: a stream without length or index (MPEG-TS, Ogg, GIF) that
//! was cut between two frames is read as a shorter video, and flipped bits may decode to other pixels.
//!
//! A shortage of the machine's memory, threads or open files stops the run, and a video is not blamed for it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod clip;
mod clock;
mod command;
mod component;
mod config;
mod error;
mod folder;
mod image;
mod index;
mod jpeg;
mod log;
mod order;
mod part;
mod picture;
mod reader;
mod sampling;
mod seek;
mod segments;

pub use config::FfmpegConfig;
pub use error::VideoError;
pub use sampling::FrameSampling;
pub use segments::Offsets;
