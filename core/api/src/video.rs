//! Decoded frames, visual features, and [`VideoInput`], which holds both; the [`VideoReader`] trait.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ComponentError;
use crate::fingerprint::Fingerprint;

/// Decoded RGB frames of one video, in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// Width of every frame in pixels.
    pub width: u32,
    /// Height of every frame in pixels.
    pub height: u32,
    /// Pixels: `u8` of shape `[frames, height, width, 3]`, row-major, sRGB as decoded.
    pub rgb: Vec<u8>,
    /// Presentation times in seconds from the start of the clip, one per frame: finite, non-decreasing.
    pub timestamps: Vec<f64>,
    /// Duration in seconds of the clip, or of the part of it that was sampled: number of its frames divided by the
    /// frame rate. `duration / len()` is the mean interval of the sampled frames, the reciprocal of transformers'
    /// `VideoMetadata.sampled_fps`.
    pub duration: f64,
}

impl Frames {
    /// Creates frames from pixels of shape `[frames, height, width, 3]` and one timestamp per frame. The duration is that
    /// of a clip of which these are all frames; [`with_duration`](Self::with_duration) sets another.
    ///
    /// # Errors
    /// [`ComponentError::BadInput`] without a frame; [`ComponentError::Failed`] if the length of `rgb` does not
    /// match the shape, or the timestamps are not finite and non-decreasing.
    pub fn new(
        width: u32,
        height: u32,
        rgb: Vec<u8>,
        timestamps: Vec<f64>,
    ) -> Result<Self, ComponentError> {
        if timestamps.is_empty() {
            return Err(ComponentError::bad_input("the video has no frame"));
        }
        let (frames, bytes) = (timestamps.len(), rgb.len());
        // u128 holds the product of any two u32 and a usize.
        let expected = u128::from(width) * u128::from(height) * 3 * frames as u128;
        if expected == 0 || expected != bytes as u128 {
            let text = format!("{frames} frames of {width}x{height} need {expected} bytes, got {bytes}");
            return Err(ComponentError::failed(text));
        }
        let finite = timestamps.iter().all(|time| time.is_finite());
        if !finite || !timestamps.is_sorted() {
            return Err(ComponentError::failed("timestamps must be finite and non-decreasing"));
        }
        let duration = match timestamps.as_slice() {
            [first, .., last] => (last - first) * frames as f64 / (frames - 1) as f64,
            _ => 0.0,
        };
        Ok(Self { width, height, rgb, timestamps, duration })
    }

    /// Sets the duration in seconds of the clip, or of the part of it that was sampled.
    pub fn with_duration(self, duration: f64) -> Self {
        Self { duration, ..self }
    }

    /// Returns the number of frames.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Returns whether there is no frame. Never true for the result of a [`VideoReader`].
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Returns the bytes of one frame: `height * width * 3`.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Returns the pixels of frame `index`, of shape `[height, width, 3]`; `None` past the end.
    pub fn frame(&self, index: usize) -> Option<&[u8]> {
        let size = self.frame_bytes();
        self.rgb.get(index * size..(index + 1) * size)
    }
}

/// Element type of [`VisualFeatures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureType {
    /// IEEE 754 single precision, 4 bytes.
    F32,
    /// bfloat16, 2 bytes.
    Bf16,
}

impl FeatureType {
    /// Returns the size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Output of a [`VideoEncoder`](crate::VideoEncoder) for one video: a tensor in host memory, for caching and
/// transport.
#[derive(Clone, Debug, PartialEq)]
pub struct VisualFeatures {
    /// Element type.
    pub dtype: FeatureType,
    /// Shape `[frames, tokens, dim]`.
    pub shape: [usize; 3],
    /// Elements, little-endian and row-major: `frames * tokens * dim * dtype.size()` bytes.
    pub bytes: Vec<u8>,
    /// Fingerprint of the encoder.
    pub encoder: Fingerprint,
}

impl VisualFeatures {
    /// Creates features of shape `[frames, tokens, dim]` from little-endian, row-major elements.
    ///
    /// # Errors
    /// [`ComponentError::Failed`] if the shape is empty or the number of bytes does not match shape and dtype.
    pub fn new(
        dtype: FeatureType,
        shape: [usize; 3],
        bytes: Vec<u8>,
        encoder: Fingerprint,
    ) -> Result<Self, ComponentError> {
        let mut sizes = shape.into_iter().chain([dtype.size()]);
        let expected = sizes.try_fold(1_usize, usize::checked_mul);
        if expected != Some(bytes.len()) || bytes.is_empty() {
            let text = format!("features of shape {shape:?} and type {dtype:?} in {} bytes", bytes.len());
            return Err(ComponentError::failed(text));
        }
        Ok(Self { dtype, shape, bytes, encoder })
    }
}

/// A decoded and encoded video, as prompts carry it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VideoInput {
    /// Path of the video file or folder of frames, with the span of a part ([`VideoSpan`](crate::VideoSpan)).
    pub video: PathBuf,
    /// Sampled frames.
    pub frames: Arc<Frames>,
    /// The encoder's features of `frames`; `None` without an encoder, in which case the policy's own vision
    /// tower reads `frames`.
    pub features: Option<Arc<VisualFeatures>>,
}

impl VideoInput {
    /// Returns the video's key in journals and random streams; see [`video_key`].
    pub fn key(&self) -> String {
        video_key(&self.video)
    }
}

/// Returns the key of a video in journals and random streams: its path with `/` as the separator. The key is
/// also a path that opens the video; of a part of a video it ends with its span ([`VideoSpan`](crate::VideoSpan)).
pub fn video_key(video: &Path) -> String {
    let text = video.to_string_lossy();
    // On other systems a backslash is part of a file name.
    if cfg!(windows) { text.replace('\\', "/") } else { text.into_owned() }
}

/// Decodes a video file or a folder of frames, and samples frames from it.
///
/// # Contract
/// - Returns at least one frame, all of the same size. Deterministic: the same input gives the same bytes.
/// - A reader that samples frames at random ([`draws_frames`](Self::draws_frames)) draws them by the seed of
///   [`draw`](Self::draw) alone; its [`read`](Self::read) draws nothing. A reader that wraps another one passes on all
///   methods.
/// - A missing, empty, truncated or malicious video is [`ComponentError::BadInput`] with its path. It causes no
///   panic, no hang and no unbounded use of memory.
/// - Called concurrently.
#[async_trait]
pub trait VideoReader: Send + Sync {
    /// Returns a digest of the frame sampling: which frames are chosen, and how they are decoded and scaled. Part
    /// of cache keys and of the run's record.
    fn fingerprint(&self) -> Fingerprint;

    /// Decodes the sampled frames of a video, or of a part of it where the path ends with a
    /// [`VideoSpan`](crate::VideoSpan). Of a reader that samples at random, the frames for evaluation: the same always.
    async fn read(&self, video: &Path) -> Result<Frames, ComponentError>;

    /// Returns whether frames are sampled at random, so that [`draw`](Self::draw) with another seed may give other frames.
    /// The loop then shows a video in each iteration by a draw of its own, and caches the draws apart. Default: false.
    fn draws_frames(&self) -> bool {
        false
    }

    /// Decodes frames that are drawn by a seed; timestamps and duration are those of the drawn frames. Default:
    /// [`read`](Self::read), whatever the seed.
    async fn draw(&self, video: &Path, seed: u64) -> Result<Frames, ComponentError> {
        let _ = seed;
        self.read(video).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_wrong_lengths_are_refused() {
        let frames = Frames::new(2, 1, vec![0; 12], vec![0.0, 0.5]).unwrap();
        assert_eq!((frames.len(), frames.duration), (2, 1.0));
        assert_eq!(frames.with_duration(3.0).duration, 3.0);
        let refused = |width, bytes, times: &[f64]| {
            Frames::new(width, 1, vec![0; bytes], times.to_vec()).unwrap_err().to_string()
        };
        assert_eq!(refused(2, 0, &[]), "the video has no frame");
        assert_eq!(refused(2, 11, &[0.0, 0.5]), "2 frames of 2x1 need 12 bytes, got 11");
        assert_eq!(refused(0, 0, &[0.0]), "1 frames of 0x1 need 0 bytes, got 0");
        for times in [[0.5, 0.0], [0.0, f64::NAN], [0.0, f64::INFINITY]] {
            assert_eq!(refused(2, 12, &times), "timestamps must be finite and non-decreasing");
        }
    }

    #[test]
    fn features_of_wrong_lengths_are_refused() {
        let new =
            |shape, bytes| VisualFeatures::new(FeatureType::Bf16, shape, bytes, Fingerprint::of("it"));
        assert_eq!(new([1, 2, 3], vec![0; 12]).unwrap().shape, [1, 2, 3]);
        assert_eq!(
            new([1, 2, 3], vec![0; 24]).unwrap_err().to_string(),
            "features of shape [1, 2, 3] and type Bf16 in 24 bytes"
        );
        assert!(new([0, 2, 3], Vec::new()).is_err() && new([usize::MAX, 2, 3], vec![0; 12]).is_err());
    }
}
