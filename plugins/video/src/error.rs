//! Errors of `isr-video`.

use std::path::{Path, PathBuf};

use isr_api::ComponentError;
use isr_ffmpeg::{FfmpegError, remedy_for};

/// Errors of reading a video. All but [`Shortage`](Self::Shortage), [`Broken`](Self::Broken) and
/// [`Ffmpeg`](Self::Ffmpeg) concern one video, which is quarantined; those stop the run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// The path does not exist.
    #[error("video {0} does not exist: check the path in the data")]
    Missing(PathBuf),
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The path is a device, pipe or socket.
    #[error("{0} is neither a file nor a folder")]
    NotAFile(PathBuf),
    /// The span of the path is no part of the video.
    #[error("{video} is no part of its video: {reason}")]
    Span {
        /// Path with the span.
        video: PathBuf,
        /// What is wrong with the span.
        reason: String,
    },
    /// The file has zero bytes.
    #[error("{0} is empty: fetch it again")]
    Empty(PathBuf),
    /// ffmpeg does not recognise the file's format.
    #[error("{path} is not a video that can be read: {reason}")]
    NotAVideo {
        /// Path of the file.
        path: PathBuf,
        /// First error message of ffmpeg.
        reason: String,
    },
    /// The file has audio or subtitles only.
    #[error("{0} has no video stream")]
    NoVideoStream(PathBuf),
    /// Part of the file is missing or corrupt.
    #[error("{path} is damaged ({reason}): fetch it again, or set `video.allow_damaged`")]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// First error message of the decoder.
        reason: String,
    },
    /// The video has fewer frames than `min_frames`.
    #[error("{path} has {count} frame{}, fewer than the {least} of `video.min_frames`", if *.count == 1 { "" } else { "s" })]
    TooFewFrames {
        /// Path of the file or folder.
        path: PathBuf,
        /// Number of frames.
        count: usize,
        /// Minimum, `min_frames`.
        least: usize,
    },
    /// The video has more frames than the fixed maximum.
    #[error("{path} has more than {limit} frames: cut it, or use the `first_seconds` rule")]
    TooManyFrames {
        /// Path of the file or folder.
        path: PathBuf,
        /// Maximum number of frames.
        limit: usize,
    },
    /// Frames have more pixels than `max_pixels`.
    #[error(
        "the frames of {path} have more than {limit} pixels: scale it down, or raise `video.max_pixels`"
    )]
    TooManyPixels {
        /// Path of the file.
        path: PathBuf,
        /// Maximum, `max_pixels`.
        limit: u64,
    },
    /// The sampled frames would take too much memory.
    #[error(
        "the chosen frames of {path} take {bytes} bytes, more than {limit}: sample fewer, or set \
         `video.max_short_side`"
    )]
    TooManyBytes {
        /// Path of the file or folder.
        path: PathBuf,
        /// Size of the sampled frames as RGB in bytes.
        bytes: usize,
        /// Maximum size in bytes.
        limit: usize,
    },
    /// Frame size or pixel format changes within the video.
    #[error("{0} changes its frame format on the way: re-encode it with one")]
    Changes(PathBuf),
    /// The sampling rule needs timestamps, and the stream has none.
    #[error("{0} has no timestamps: use the `uniform` rule, or put it into a container that has them")]
    NoTimestamps(PathBuf),
    /// Two decoding passes over the file gave different frames.
    #[error("{0} does not decode to the same frames twice: was it changed meanwhile?")]
    Unstable(PathBuf),
    /// The wall-clock limit is exceeded.
    #[error(
        "{path} took longer than {limit:.1} s, {frames} frames in: raise `video.timeout_seconds` ({seconds}) or \
         `video.timeout_per_frame` ({per_frame})"
    )]
    TimedOut {
        /// Path of the file or folder.
        path: PathBuf,
        /// Limit that was exceeded, in seconds.
        limit: f64,
        /// Number of frames that had been decoded.
        frames: usize,
        /// `timeout_seconds`.
        seconds: f64,
        /// `timeout_per_frame`.
        per_frame: f64,
    },
    /// The machine lacks a resource, or ended the decoder; the video may be sound.
    #[error("cannot decode {path} now, which may be sound ({reason}): {remedy}")]
    Shortage {
        /// Path of the file or folder.
        path: PathBuf,
        /// What happened.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// The decoder's memory limit is exceeded.
    #[error("decoding {path} takes more than the {limit} MiB of `video.memory_mib`")]
    OutOfMemory {
        /// Path of the file.
        path: PathBuf,
        /// Limit in MiB, `memory_mib`.
        limit: u64,
    },
    /// The decoder process crashed.
    #[error("ffmpeg crashed on {path} ({status})")]
    Crashed {
        /// Path of the file.
        path: PathBuf,
        /// Exit status or signal.
        status: String,
    },
    /// The folder has no PNG or JPEG files.
    #[error("{0} holds no frames: expected .png, .jpg or .jpeg files")]
    NoImages(PathBuf),
    /// The names of a folder's images do not tell their order.
    #[error(
        "{first} and {second} stand in one order by their numbers and in the other by their letters: pad the \
         numbers in the names with zeros"
    )]
    Order {
        /// Path of the one that is first by its numbers.
        first: PathBuf,
        /// Path of the other.
        second: PathBuf,
    },
    /// The images of the folder differ in size.
    #[error(
        "{path} is {}x{} pixels, but the first frame of its folder is {}x{}: remove or resize it",
        .size.0, .size.1, .expected.0, .expected.1
    )]
    OddSize {
        /// Path of the first image that differs.
        path: PathBuf,
        /// Its width and height in pixels.
        size: (u32, u32),
        /// Width and height of the folder's first image in pixels.
        expected: (u32, u32),
    },
    /// The installed ffmpeg does not work, independent of the file.
    #[error("ffmpeg does not run: {0}")]
    Broken(String),
    /// ffmpeg cannot be found or started.
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
}

impl VideoError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match remedy_for(&source) {
            Some(remedy) => Self::Shortage { path, reason: source.to_string(), remedy: remedy.to_owned() },
            None if source.kind() == std::io::ErrorKind::NotFound => Self::Missing(path),
            None => Self::Io { path, source },
        }
    }

    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl From<VideoError> for ComponentError {
    /// A failure of the decoder itself or of the machine stops the run; all other errors are bad input.
    fn from(error: VideoError) -> Self {
        match error {
            VideoError::Shortage { .. } | VideoError::Broken(_) | VideoError::Ffmpeg(_) => {
                Self::failed(error)
            }
            _ => Self::bad_input(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortage_of_the_machine_is_not_bad_input() {
        let full = VideoError::io(Path::new("a.mp4"), std::io::ErrorKind::OutOfMemory.into());
        let ComponentError::Failed(cause) = ComponentError::from(full) else { panic!("bad input") };
        assert!(cause.to_string().starts_with("cannot decode a.mp4 now, which may be sound ("), "{cause}");
        let denied = VideoError::io(Path::new("a.mp4"), std::io::ErrorKind::PermissionDenied.into());
        assert!(matches!(ComponentError::from(denied), ComponentError::BadInput(_)));
    }
}
