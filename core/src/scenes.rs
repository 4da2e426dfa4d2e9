//! Opens videos, and keeps the recent ones.

use std::path::Path;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tracing::{Instrument, debug_span};

use crate::encoder::VideoEncoder;
use crate::error::ComponentError;
use crate::video::{Frames, Scene, VideoReader, VisualFeatures, video_key};

#[derive(Clone)]
struct Bytes;

impl Weighter<String, Scene> for Bytes {
    fn weight(&self, _: &String, scene: &Scene) -> u64 {
        (scene.frames.rgb.len() + scene.features.as_ref().map_or(0, |features| features.bytes.len())).max(1)
            as u64
    }
}

/// Videos by path: decoded, and encoded where there is an encoder, once while they fit the budget, however many tasks ask.
pub(crate) struct Scenes {
    reader: Arc<dyn VideoReader>,
    encoder: Option<Arc<dyn VideoEncoder>>,
    cache: Cache<String, Scene, Bytes>,
}

impl Scenes {
    pub(crate) fn new(
        reader: Arc<dyn VideoReader>,
        encoder: Option<Arc<dyn VideoEncoder>>,
        budget_mb: usize,
    ) -> Self {
        // The estimate only sizes the cache's tables; the budget is in bytes.
        let cache = Cache::with_weighter(1024, (budget_mb as u64) << 20, Bytes);
        Self { reader, encoder, cache }
    }

    pub(crate) async fn open(&self, video: &Path) -> Result<Scene, ComponentError> {
        let key = video_key(video);
        let load = async {
            let frames = self.reader.read(video).instrument(debug_span!("decode", video = %key)).await?;
            check_frames(&frames)?;
            let features = self.encode(&frames).instrument(debug_span!("encode", video = %key)).await?;
            Ok(Scene { video: video.to_owned(), frames: Arc::new(frames), features })
        };
        self.cache.get_or_insert_async(&key, load).await
    }

    async fn encode(&self, frames: &Frames) -> Result<Option<Arc<VisualFeatures>>, ComponentError> {
        let Some(encoder) = &self.encoder else {
            return Ok(None);
        };
        let features = encoder.encode(frames).await?;
        check_features(&features)?;
        Ok(Some(Arc::new(features)))
    }
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
