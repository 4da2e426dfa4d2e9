//! Opens videos, and keeps the recent ones.

use std::path::Path;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tracing::{Instrument, debug_span};

use crate::encoder::VideoEncoder;
use crate::error::ComponentError;
use crate::video::{Scene, VideoReader, video_key};

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
            let features =
                self.encoder.encode(&frames).instrument(debug_span!("encode", video = %key)).await?;
            Ok(Scene {
                video: video.to_owned(),
                frames: Arc::new(frames),
                features: Some(Arc::new(features)),
            })
        };
        self.cache.get_or_insert_async(&key, load).await
    }
}
