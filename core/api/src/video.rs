//! Video as the loop sees it: decoded frames, visual features, and a scene that holds both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ComponentError;
use crate::fingerprint::Fingerprint;

/// Decoded RGB frames in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// Width in pixels, equal for all frames.
    pub width: u32,
    /// Height in pixels, equal for all frames.
    pub height: u32,
    /// `u8` samples of shape `[frames, height, width, 3]`, row-major, sRGB as decoded.
    pub rgb: Vec<u8>,
    /// Presentation time of each frame in seconds from the clip's start; `NaN`-free, non-decreasing.
    pub timestamps: Vec<f64>,
}

impl Frames {
    /// Number of frames.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// True where there is no frame; a [`VideoReader`] never returns such a value.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Bytes of one frame: `height * width * 3`.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Frame `index` as `[height, width, 3]`, or `None` past the end.
    pub fn frame(&self, index: usize) -> Option<&[u8]> {
        let size = self.frame_bytes();
        self.rgb.get(index * size..(index + 1) * size)
    }
}

/// Element type of [`VisualFeatures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureType {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16.
    Bf16,
}

impl FeatureType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// What a [`crate::VideoEncoder`] makes of frames, in host memory so that it can be cached and sent.
#[derive(Clone, Debug, PartialEq)]
pub struct VisualFeatures {
    /// Element type of `bytes`.
    pub dtype: FeatureType,
    /// `[frames, tokens, dim]`.
    pub shape: [usize; 3],
    /// Little-endian, row-major elements: `frames * tokens * dim * dtype.size()` bytes.
    pub bytes: Vec<u8>,
    /// The encoder's fingerprint.
    pub encoder: Fingerprint,
}

/// A video that is ready to be talked about: what prompts carry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VideoInput {
    /// The file or folder that it was read from; also its name in journals.
    pub video: PathBuf,
    /// The frames that the sampling contract chose.
    pub frames: Arc<Frames>,
    /// The encoder's features of those frames; `None` where no encoder ran, and the policy's own tower
    /// sees the frames.
    pub features: Option<Arc<VisualFeatures>>,
}

impl VideoInput {
    /// The video's name in journals and random streams: its path, with `/` between parts.
    pub fn key(&self) -> String {
        video_key(&self.video)
    }
}

/// The name under which a video stands in journals and random streams; also a path that opens it.
pub fn video_key(video: &Path) -> String {
    let text = video.to_string_lossy();
    // Elsewhere a backslash is a letter like any other.
    if cfg!(windows) { text.replace('\\', "/") } else { text.into_owned() }
}

/// Turns a video file, or a folder of frames, into the frames of its sampling contract.
///
/// # Contract
/// - Returns at least one frame, all of one size, and the same bytes for the same input.
/// - A missing, empty, truncated or hostile video is [`ComponentError::BadInput`] naming the path;
///   it never panics, hangs or exhausts memory.
/// - Safe to call concurrently.
#[async_trait]
pub trait VideoReader: Send + Sync {
    /// Identifies the sampling contract; part of every cache key and run record.
    fn fingerprint(&self) -> Fingerprint;

    /// Reads the frames that the contract chooses.
    async fn read(&self, video: &Path) -> Result<Frames, ComponentError>;
}
