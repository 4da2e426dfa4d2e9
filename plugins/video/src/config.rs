//! Config of the component, and the fingerprint of its frame sampling.

use std::path::Path;
use std::time::Duration;

use isr_api::Fingerprint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::VideoError;
use crate::sampling::FrameSampling;

/// Video reader that decodes files with the `ffmpeg` program, and folders of PNG or JPEG frames.
///
/// Frames are 8-bit RGB at the video's resolution, with rotation metadata applied; the encoder resizes and
/// normalises them. A file that is missing, damaged or hostile, or that exceeds the limits on time and memory,
/// is quarantined; a clip whose decoder complains without losing a frame is read, with a warning. The program is
/// that of `ISR_FFMPEG`, else `.ffmpeg/ffmpeg` or `ffmpeg` beside the binary, else `.ffmpeg/ffmpeg` of the
/// checkout that it was built in, as installed by `cargo xtask setup`, else that of `cargo xtask setup --user` in
/// the user's cache folder (`~/.cache/isr-dpo`), else that on `PATH`; version 5.1 or later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FfmpegConfig {
    /// Frame sampling. Default: 8 evenly spaced frames.
    pub sampling: FrameSampling,
    /// Minimum number of frames of a video or folder; one with fewer is quarantined. Above 1, as by default (2), a PNG or
    /// JPEG file is a picture: it is read as one frame. At 1 it is a video of one frame, sampled by the rule.
    pub min_frames: usize,
    /// Maximum shorter side in pixels; larger frames of video files are scaled down, keeping their aspect
    /// ratio. Frames in folders are not scaled. Not set by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_short_side: Option<u32>,
    /// Frame rate assumed for folders, in frames per second, for timestamps and the `fps` rule; default 2.
    pub folder_fps: f64,
    /// Whether the decodable part of a damaged file is used; by default (false) a file that has lost frames is
    /// quarantined. Pictures before the first key frame of a clip, which a cut by stream copy leaves behind, are
    /// no damage.
    pub allow_damaged: bool,
    /// Maximum number of pixels of a stored frame; the default 9437184 is 4096 x 2304.
    pub max_pixels: u64,
    /// Wall-clock limit per video in seconds, from the start of decoding; default 60. Grows by
    /// `timeout_per_frame`, and by a second for every 16 MiB of a file.
    pub timeout_seconds: f64,
    /// Seconds by which each decoded frame extends the limit, so that long videos have longer; default 0.05.
    #[serde(skip_serializing_if = "is_default_per_frame")]
    pub timeout_per_frame: f64,
    /// Address-space limit of one ffmpeg process in MiB, including up to 400 for its libraries; default 2048.
    pub memory_mib: u64,
    /// Whether the frames of a long video (MP4, MOV, Matroska, WebM) are decoded from the key frames before them, which
    /// gives the same frames as decoding it from its start; default true. False decodes every frame, which notices damage
    /// in frames that are not sampled.
    #[serde(skip_serializing_if = "is_true")]
    pub seek: bool,
    /// Maximum number of videos read concurrently, or of decoder processes where a long video takes several; default: the
    /// number of processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<usize>,
}

/// Bytes of a file that are read in a second at the slowest.
const BYTES_PER_SECOND: u64 = 16 << 20;

/// Default of `timeout_per_frame`, which is left out of written configs, as in those of runs that did not have it.
const PER_FRAME: f64 = 0.05;

fn is_default_per_frame(seconds: &f64) -> bool {
    *seconds == PER_FRAME
}

/// Whether `seek` has its default, and is left out like `timeout_per_frame`.
fn is_true(seek: &bool) -> bool {
    *seek
}

impl Default for FfmpegConfig {
    fn default() -> Self {
        Self {
            sampling: FrameSampling::default(),
            min_frames: 2,
            max_short_side: None,
            folder_fps: 2.0,
            allow_damaged: false,
            max_pixels: 4096 * 2304,
            timeout_seconds: 60.0,
            timeout_per_frame: PER_FRAME,
            memory_mib: 2048,
            seek: true,
            processes: None,
        }
    }
}

/// Settings that determine the sampled frames and their timestamps.
#[derive(Serialize)]
struct SamplingIdentity<'a> {
    /// Version of the sampling code; raised when the same settings give other frames.
    version: u32,
    sampling: &'a FrameSampling,
    max_short_side: Option<u32>,
    folder_fps: f64,
    allow_damaged: bool,
}

impl FfmpegConfig {
    /// Fingerprint of the frame sampling. Excludes limits, which decide whether a video is read but not which
    /// frames.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_json(&SamplingIdentity {
            version: 2,
            sampling: &self.sampling,
            max_short_side: self.max_short_side,
            folder_fps: self.folder_fps,
            allow_damaged: self.allow_damaged,
        })
    }

    /// Checks ranges; the message names the first setting out of range.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.sampling.validate()?;
        let checks = [
            (self.min_frames >= 1, "min_frames must be at least 1"),
            (self.max_short_side.is_none_or(|side| side >= 1), "max_short_side must be at least 1"),
            (self.folder_fps > 0.0 && self.folder_fps.is_finite(), "folder_fps must be more than 0"),
            ((1..=1 << 30).contains(&self.max_pixels), "max_pixels must be from 1 to 1073741824"),
            (self.timeout_seconds > 0.0, "timeout_seconds must be more than 0"),
            (self.timeout_per_frame >= 0.0, "timeout_per_frame must be at least 0"),
            ((512..=1 << 20).contains(&self.memory_mib), "memory_mib must be from 512 to 1048576"),
            (
                self.processes.is_none_or(|count| (1..=1024).contains(&count)),
                "processes must be from 1 to 1024",
            ),
        ];
        checks.into_iter().find(|(right, _)| !right).map_or(Ok(()), |(_, message)| Err(message.to_owned()))
    }

    /// Wall-clock limit of a video in a file of `bytes` bytes, of which so many frames have been decoded.
    pub(crate) fn timeout(&self, frames: usize, bytes: u64) -> Duration {
        let reading = (bytes / BYTES_PER_SECOND) as f64;
        let seconds = self.timeout_seconds + reading + self.timeout_per_frame * frames as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Refuses a video with fewer than `min_frames` frames.
    pub(crate) fn check_count(&self, path: &Path, count: usize) -> Result<(), VideoError> {
        if count >= self.min_frames {
            return Ok(());
        }
        Err(VideoError::TooFewFrames { path: path.to_owned(), count, least: self.min_frames })
    }
}
