//! A memory cache of decoded and encoded videos, backed by the feature cache on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{ComponentError, Frames, VideoEncoder, VideoInput, VideoReader, VisualFeatures, video_key};
use tracing::{Instrument, debug_span};

use crate::crop::cropped;
use crate::feature_cache::{FeatureCache, FeatureKey, frames_digest, video_digest};
use crate::look::Look;
use crate::video_memory::{Admission, VideoMemory};

/// A video as it is kept in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    video: PathBuf,
    /// Seed of the draw of its frames, of a reader that draws.
    draw: Option<u64>,
    /// Seed of its crop window if it is cropped.
    crop: Option<u64>,
}

/// A memory cache of videos by path and draw of frames, decoded and (with an encoder) encoded. Concurrent requests for one video share
/// the work.
pub struct VideoCache {
    reader: Arc<dyn VideoReader>,
    encoder: Option<Arc<dyn VideoEncoder>>,
    memory: VideoMemory<Key>,
    disk: Option<FeatureCache>,
}

impl VideoCache {
    /// Creates a cache of `budget_mb` MiB. Without an encoder, videos have no features.
    pub fn new(
        reader: Arc<dyn VideoReader>,
        encoder: Option<Arc<dyn VideoEncoder>>,
        budget_mb: usize,
    ) -> Self {
        Self { reader, encoder, memory: VideoMemory::new((budget_mb as u64) << 20), disk: None }
    }

    /// Adds an on-disk cache of features.
    #[must_use]
    pub fn with_disk(mut self, disk: Option<FeatureCache>) -> Self {
        self.disk = disk;
        self
    }

    /// Waits until the budget has room for the video of one more task; see [`VideoMemory::admit`].
    pub(crate) async fn admit(&self) -> Admission {
        self.memory.admit().await
    }

    /// Returns a video as a look sees it, from the cache, or decodes and encodes it.
    ///
    /// # Errors
    /// Errors of reader and encoder; [`ComponentError::Failed`] if one returns data of the wrong size.
    pub async fn open(&self, video: &Path, look: Look) -> Result<VideoInput, ComponentError> {
        let name = video_key(video);
        let key = self.key(video, look, None);
        let load = async {
            let read = look.read(self.reader.as_ref(), video, None);
            let frames = read.instrument(debug_span!("decode", video = %name)).await?;
            check_frames(&frames)?;
            let frames = Arc::new(frames);
            let features =
                self.features(&key, &frames).instrument(debug_span!("encode", video = %name)).await?;
            Ok(VideoInput { video: video.to_owned(), frames, features })
        };
        self.memory.get_or_open(&key, load).await
    }

    fn key(&self, video: &Path, look: Look, crop: Option<u64>) -> Key {
        let draw = look.seed(self.reader.as_ref(), &video_key(video));
        Key { video: video.to_owned(), draw, crop }
    }

    /// Returns a video cropped to a window drawn by `seed`, for [`isr_api::View::ChosenCorrupted`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn cropped(
        &self,
        video: &Path,
        look: Look,
        seed: u64,
    ) -> Result<VideoInput, ComponentError> {
        let key = self.key(video, look, Some(seed));
        let load = async {
            let whole = self.open(video, look).await?;
            let frames = blocking(move || Arc::new(cropped(&whole.frames, seed))).await?;
            let features = self.features(&key, &frames).await?;
            Ok(VideoInput { video: video.to_owned(), frames, features })
        };
        self.memory.get_or_open(&key, load).await
    }

    /// Returns the features of a video from disk, or encodes it and stores them.
    async fn features(
        &self,
        of: &Key,
        frames: &Arc<Frames>,
    ) -> Result<Option<Arc<VisualFeatures>>, ComponentError> {
        let Some(encoder) = &self.encoder else {
            return Ok(None);
        };
        let Some(disk) = &self.disk else {
            return Ok(Some(Arc::new(encode(encoder.as_ref(), frames).await?)));
        };
        let key = self.feature_key(encoder.as_ref(), of, frames).await?;
        let (from, wanted) = (disk.clone(), key.clone());
        let found = match wanted {
            Some(key) => blocking(move || from.get(&key)).await?,
            None => None,
        };
        if let Some(features) = found {
            return Ok(Some(Arc::new(features)));
        }
        let features = Arc::new(encode(encoder.as_ref(), frames).await?);
        if let Some(key) = key {
            let (into, kept) = (disk.clone(), Arc::clone(&features));
            blocking(move || into.put(&key, &kept)).await?;
        }
        Ok(Some(features))
    }

    /// The key of a video's features on disk; `None` if its bytes cannot be read.
    async fn feature_key(
        &self,
        encoder: &dyn VideoEncoder,
        of: &Key,
        frames: &Arc<Frames>,
    ) -> Result<Option<FeatureKey>, ComponentError> {
        let (path, decoded) = (of.video.clone(), Arc::clone(frames));
        let digests = blocking(move || (video_digest(&path), frames_digest(&decoded))).await?;
        let (video, frames) = match digests {
            (Ok(video), frames) => (video, frames),
            (Err(error), _) => {
                tracing::debug!(video = %of.video.display(), %error, "its features are not kept on disk");
                return Ok(None);
            }
        };
        let (reader, encoder, device_key) =
            (self.reader.fingerprint(), encoder.fingerprint(), encoder.device_key());
        let several = self.reader.draws_frames() || of.crop.is_some();
        Ok(Some(FeatureKey { video, reader, encoder, device_key, frames, several }))
    }
}

async fn encode(encoder: &dyn VideoEncoder, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
    let features = encoder.encode(frames).await?;
    check_features(&features)?;
    Ok(features)
}

/// Runs blocking work on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ComponentError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.map_err(|error| ComponentError::Panicked(error.to_string()))
}

/// Checks sizes where frames enter, so that the error names the reader.
fn check_frames(frames: &Frames) -> Result<(), ComponentError> {
    if frames.is_empty() {
        return Err(ComponentError::bad_input("the video has no frame"));
    }
    let Frames { width, height, rgb, .. } = frames;
    // u128 holds the product for any width and height in a header.
    let wanted = u128::from(*width) * u128::from(*height) * 3 * frames.len() as u128;
    let got = rgb.len();
    if wanted == 0 || wanted != got as u128 {
        let text =
            format!("the reader returned {got} bytes for {} frames of {width}x{height}", frames.len());
        return Err(ComponentError::failed(text));
    }
    Ok(())
}

fn check_features(features: &VisualFeatures) -> Result<(), ComponentError> {
    let VisualFeatures { dtype, shape, bytes, .. } = features;
    let elements: u128 = shape.iter().map(|&extent| extent as u128).product();
    if elements * dtype.size() as u128 != bytes.len() as u128 {
        let got = bytes.len();
        return Err(ComponentError::failed(format!(
            "the encoder returned {got} bytes for shape {shape:?}"
        )));
    }
    Ok(())
}
