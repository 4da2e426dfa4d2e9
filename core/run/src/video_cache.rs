//! A memory cache of decoded and encoded videos, backed by the feature cache on disk.

use std::path::Path;
use std::sync::Arc;

use isr_api::{ComponentError, Frames, VideoEncoder, VideoInput, VideoReader, VisualFeatures, video_key};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tracing::{Instrument, debug_span};

use crate::crop::cropped;
use crate::feature_cache::{FeatureCache, FeatureKey, frames_digest, video_digest};

#[derive(Clone)]
struct Bytes;

impl Weighter<String, VideoInput> for Bytes {
    fn weight(&self, _: &String, scene: &VideoInput) -> u64 {
        (scene.frames.rgb.len() + scene.features.as_ref().map_or(0, |features| features.bytes.len())).max(1)
            as u64
    }
}

/// Videos by path: decoded, and encoded where there is an encoder, once while they fit the budget, however
/// many tasks ask.
pub struct VideoCache {
    reader: Arc<dyn VideoReader>,
    encoder: Option<Arc<dyn VideoEncoder>>,
    cache: Cache<String, VideoInput, Bytes>,
    disk: Option<FeatureCache>,
}

impl VideoCache {
    /// Videos as `reader` decodes them, of which `budget_mb` MiB are kept in memory; without an encoder,
    /// scenes have no features.
    pub fn new(
        reader: Arc<dyn VideoReader>,
        encoder: Option<Arc<dyn VideoEncoder>>,
        budget_mb: usize,
    ) -> Self {
        // The estimate only sizes the cache's tables; the budget is in bytes.
        let cache = Cache::with_weighter(1024, (budget_mb as u64) << 20, Bytes);
        Self { reader, encoder, cache, disk: None }
    }

    /// With features kept on disk too.
    #[must_use]
    pub fn with_disk(mut self, disk: Option<FeatureCache>) -> Self {
        self.disk = disk;
        self
    }

    /// The scene of a video.
    ///
    /// # Errors
    /// What the reader and the encoder say; [`ComponentError::Failed`] where they return what cannot be.
    pub async fn open(&self, video: &Path) -> Result<VideoInput, ComponentError> {
        let key = video_key(video);
        let load = async {
            let frames = self.reader.read(video).instrument(debug_span!("decode", video = %key)).await?;
            check_frames(&frames)?;
            let frames = Arc::new(frames);
            let features =
                self.features(video, &frames).instrument(debug_span!("encode", video = %key)).await?;
            Ok(VideoInput { video: video.to_owned(), frames, features })
        };
        self.cache.get_or_insert_async(&key, load).await
    }

    /// The scene of a video that is cropped to a window drawn by `seed` ([`isr_api::View::ChosenCorrupted`]).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn cropped(&self, video: &Path, seed: u64) -> Result<VideoInput, ComponentError> {
        // No path has a zero in it.
        let key = format!("{}\0{seed}", video_key(video));
        let load = async {
            let whole = self.open(video).await?;
            let frames = blocking(move || Arc::new(cropped(&whole.frames, seed))).await?;
            let features = self.features(video, &frames).await?;
            Ok(VideoInput { video: video.to_owned(), frames, features })
        };
        self.cache.get_or_insert_async(&key, load).await
    }

    /// The features of a video: those on disk, else newly encoded ones.
    async fn features(
        &self,
        video: &Path,
        frames: &Arc<Frames>,
    ) -> Result<Option<Arc<VisualFeatures>>, ComponentError> {
        let Some(encoder) = &self.encoder else {
            return Ok(None);
        };
        let Some(disk) = &self.disk else {
            return Ok(Some(Arc::new(encode(encoder.as_ref(), frames).await?)));
        };
        let key = self.key(encoder.as_ref(), video, frames).await?;
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

    /// The name of a video's features on disk; `None` where its bytes cannot be read.
    async fn key(
        &self,
        encoder: &dyn VideoEncoder,
        video: &Path,
        frames: &Arc<Frames>,
    ) -> Result<Option<FeatureKey>, ComponentError> {
        let (path, decoded) = (video.to_owned(), Arc::clone(frames));
        let digests = blocking(move || (video_digest(&path), frames_digest(&decoded))).await?;
        let (video, frames) = match digests {
            (Ok(video), frames) => (video, frames),
            (Err(error), _) => {
                tracing::debug!(video = %video.display(), %error, "its features are not kept on disk");
                return Ok(None);
            }
        };
        let (contract, encoder, device_key) =
            (self.reader.fingerprint(), encoder.fingerprint(), encoder.device_key());
        Ok(Some(FeatureKey { video, contract, encoder, device_key, frames }))
    }
}

async fn encode(encoder: &dyn VideoEncoder, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
    let features = encoder.encode(frames).await?;
    check_features(&features)?;
    Ok(features)
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ComponentError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.map_err(|error| ComponentError::Panicked(error.to_string()))
}

/// Readers and encoders may come from outside: sizes that lie would surface far from their cause.
fn check_frames(frames: &Frames) -> Result<(), ComponentError> {
    if frames.is_empty() {
        return Err(ComponentError::bad_input("the video has no frame"));
    }
    let Frames { width, height, rgb, .. } = frames;
    // Wide enough for any width and height that a header may claim.
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
