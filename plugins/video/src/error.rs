//! Errors of `isr-video`.

use std::path::{Path, PathBuf};

use isr_api::ComponentError;
use isr_ffmpeg::FfmpegError;

/// What can go wrong in reading a video.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// There is nothing at the path.
    #[error("video {0} does not exist: check the path in the data")]
    Missing(PathBuf),
    /// The system refuses the file or folder.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A device, pipe or socket.
    #[error("{0} is neither a file nor a folder")]
    NotAFile(PathBuf),
    /// A file of zero bytes.
    #[error("{0} is empty: fetch it again")]
    Empty(PathBuf),
    /// ffmpeg makes nothing of the file.
    #[error("{path} is not a video that can be read: {reason}")]
    NotAVideo {
        /// The file.
        path: PathBuf,
        /// What ffmpeg said first.
        reason: String,
    },
    /// A media file with sound or subtitles only.
    #[error("{0} has no video stream")]
    NoVideoStream(PathBuf),
    /// Some of the file is missing or wrong.
    #[error("{path} is damaged ({reason}): fetch it again, or set `video.allow_damaged`")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder said first.
        reason: String,
    },
    /// Less than `min_frames`.
    #[error("{path} has {count} frame{}, fewer than the {least} of `video.min_frames`", if *.count == 1 { "" } else { "s" })]
    TooFewFrames {
        /// The file or folder.
        path: PathBuf,
        /// Its frames.
        count: usize,
        /// `min_frames`.
        least: usize,
    },
    /// More frames than are ever counted.
    #[error("{path} has more than {limit} frames: cut it, or use the `first_seconds` rule")]
    TooManyFrames {
        /// The file or folder.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Frames larger than `max_pixels`.
    #[error(
        "the frames of {path} have more than {limit} pixels: scale it down, or raise `video.max_pixels`"
    )]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// `max_pixels`.
        limit: u64,
    },
    /// The chosen frames would take too much memory.
    #[error(
        "the chosen frames of {path} take {bytes} bytes, more than {limit}: sample fewer, or set \
         `video.max_short_side`"
    )]
    TooManyBytes {
        /// The file or folder.
        path: PathBuf,
        /// Bytes of the chosen frames as RGB.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame size or pixel format changes on the way.
    #[error("{0} changes its frame format on the way: re-encode it with one")]
    Changes(PathBuf),
    /// A rule that counts seconds, and a stream without timestamps.
    #[error("{0} has no timestamps: use the `uniform` rule, or put it into a container that has them")]
    NoTimestamps(PathBuf),
    /// Two decodings of one file disagree.
    #[error("{0} does not decode to the same frames twice: was it changed meanwhile?")]
    Unstable(PathBuf),
    /// The wall-clock limit.
    #[error("{path} took longer than the {seconds} s of `video.timeout_seconds`")]
    TimedOut {
        /// The file or folder.
        path: PathBuf,
        /// `timeout_seconds`.
        seconds: f64,
    },
    /// The limit of the decoder's memory.
    #[error("decoding {path} takes more than the {limit} MiB of `video.memory_mib`")]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// `memory_mib`.
        limit: u64,
    },
    /// The decoder process died.
    #[error("ffmpeg crashed on {path} ({status})")]
    Crashed {
        /// The file.
        path: PathBuf,
        /// The signal.
        status: String,
    },
    /// A folder without PNG or JPEG files.
    #[error("{0} holds no frames: expected .png, .jpg or .jpeg files")]
    NoImages(PathBuf),
    /// A folder with images of several sizes.
    #[error(
        "{path} is {}x{} pixels, but the first frame of its folder is {}x{}: remove or resize it",
        .size.0, .size.1, .expected.0, .expected.1
    )]
    OddSize {
        /// The image that differs.
        path: PathBuf,
        /// Its width and height.
        size: (u32, u32),
        /// Width and height of the folder's first image.
        expected: (u32, u32),
    },
    /// ffmpeg itself does not work here, whatever the file.
    #[error("ffmpeg does not run: {0}")]
    Broken(String),
    /// ffmpeg cannot be found or started.
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
}

impl VideoError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl From<VideoError> for ComponentError {
    /// The decoder's failures are the run's; all else is the video's own fault.
    fn from(error: VideoError) -> Self {
        match error {
            VideoError::Broken(_) | VideoError::Ffmpeg(_) => Self::failed(error),
            _ => Self::bad_input(error),
        }
    }
}
