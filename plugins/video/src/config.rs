//! The config of the component, and the fingerprint of its contract.

use std::sync::Arc;

use isr_api::{BuildContext, Cause, Component, Fingerprint, VideoReader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reader::FfmpegReader;
use crate::sampling::Sampling;

/// Reads video files with the `ffmpeg` program, and folders of PNG or JPEG frames.
///
/// Frames leave as 8-bit RGB at the video's own size and upright; resizing and normalising belong to the
/// encoder. A file that is missing, damaged or hostile, that takes too long or too much memory, costs
/// its sample and no more. The program is the one that `ISR_FFMPEG` names, else `.ffmpeg/ffmpeg` as
/// `cargo xtask setup` installs it, else the one on `PATH`; version 5.1 or later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FfmpegConfig {
    /// Which frames of a video are taken; eight, evenly spaced, by default.
    pub sampling: Sampling,
    /// Fewest frames of a video or folder; one with fewer is quarantined. The default 2 keeps out still
    /// pictures.
    pub min_frames: usize,
    /// Scales frames of a video file down, in proportion, until their shorter side has at most as many
    /// pixels. Not set by default. Frames in folders stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_short_side: Option<u32>,
    /// Frames a second that a folder is taken to have, for timestamps and the `fps` rule; default 2.
    pub folder_fps: f64,
    /// Takes what can be decoded of a damaged file; by default (false) it is quarantined.
    pub allow_damaged: bool,
    /// Most pixels of a frame as it is stored; the default 9437184 is 4096 x 2304.
    pub max_pixels: u64,
    /// Wall-clock seconds that one video may take, once its turn has come; default 60.
    pub timeout_seconds: f64,
    /// Address space of one ffmpeg process in MiB, of which its libraries take up to 400; default 2048.
    pub memory_mib: u64,
    /// Videos that are read at once; by default as many as there are processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<usize>,
}

impl Default for FfmpegConfig {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            min_frames: 2,
            max_short_side: None,
            folder_fps: 2.0,
            allow_damaged: false,
            max_pixels: 4096 * 2304,
            timeout_seconds: 60.0,
            memory_mib: 2048,
            processes: None,
        }
    }
}

/// What decides the frames and their timestamps, and nothing else.
#[derive(Serialize)]
struct Contract<'a> {
    /// To be raised when the same settings come to give other frames.
    version: u32,
    sampling: &'a Sampling,
    max_short_side: Option<u32>,
    folder_fps: f64,
    allow_damaged: bool,
}

impl FfmpegConfig {
    /// Identifies the sampling contract. Limits are no part of it: they decide whether a video is read,
    /// not what is read of it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_json(&Contract {
            version: 1,
            sampling: &self.sampling,
            max_short_side: self.max_short_side,
            folder_fps: self.folder_fps,
            allow_damaged: self.allow_damaged,
        })
    }
}

impl Component for FfmpegConfig {
    type Built = Arc<dyn VideoReader>;

    fn validate(&self) -> Result<(), String> {
        self.sampling.validate()?;
        let checks = [
            (self.min_frames >= 1, "min_frames must be at least 1"),
            (self.max_short_side.is_none_or(|side| side >= 1), "max_short_side must be at least 1"),
            (self.folder_fps > 0.0 && self.folder_fps.is_finite(), "folder_fps must be more than 0"),
            ((1..=1 << 30).contains(&self.max_pixels), "max_pixels must be from 1 to 1073741824"),
            (self.timeout_seconds > 0.0, "timeout_seconds must be more than 0"),
            ((512..=1 << 20).contains(&self.memory_mib), "memory_mib must be from 512 to 1048576"),
            (
                self.processes.is_none_or(|count| (1..=1024).contains(&count)),
                "processes must be from 1 to 1024",
            ),
        ];
        checks.into_iter().find(|(right, _)| !right).map_or(Ok(()), |(_, message)| Err(message.to_owned()))
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn VideoReader>, Cause> {
        self.validate()?;
        Ok(Arc::new(FfmpegReader::new(self.clone())))
    }
}

isr_config::register!(Video "ffmpeg" => FfmpegConfig, example = "sampling = { rule = \"uniform\", frames = 8 }\n");
