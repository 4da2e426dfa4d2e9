//! Videos as a run saw them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{BuildContext, Frames, Streams, VideoReader};
use isr_config::registry::VideoConfig;
use isr_run::Look;
use tokio::runtime::Handle;

use crate::report::FrameSource;

/// The video reader of a run, and the streams by which it draws frames.
pub(super) struct RunVideos {
    reader: Arc<dyn VideoReader>,
    streams: Streams,
}

impl RunVideos {
    /// Builds the reader that the run's `[video]` names; `None` where that cannot be done. No other section is read, since
    /// the model may have moved.
    pub(super) fn of(run: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(run.join("config.toml")).ok()?;
        let settings: serde_json::Value = toml::from_str(&text).ok()?;
        let config: Box<dyn VideoConfig> = serde_json::from_value(settings.get("video")?.clone()).ok()?;
        let seed = settings.get("seed").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let reader = config.build(&BuildContext { config: settings }).ok()?;
        Some(Self { reader, streams: Streams::new(seed) })
    }

    /// Whether the run saw other frames in each iteration.
    pub(super) fn draws_frames(&self) -> bool {
        self.reader.draws_frames()
    }

    /// Decodes a video as the run saw it in an iteration, or without one in evaluation. `name` is the video's in the run.
    pub(super) fn read(
        &self,
        runtime: &Handle,
        path: &Path,
        name: &str,
        iteration: Option<u32>,
    ) -> Option<Frames> {
        let drawn = |iteration| Look::Drawn { streams: self.streams, iteration };
        let look = iteration.map_or(Look::Fixed, drawn);
        runtime.block_on(look.read(self.reader.as_ref(), path, Some(name))).ok()
    }
}

/// Videos of several runs, by run directory.
pub(super) struct VideosOfRuns<'a> {
    pub(super) runs: HashMap<PathBuf, RunVideos>,
    pub(super) runtime: &'a Handle,
}

impl FrameSource for VideosOfRuns<'_> {
    fn frames(&self, run: &Path, video: &str, iteration: Option<u32>) -> Option<Frames> {
        self.runs.get(run)?.read(self.runtime, Path::new(video), video, iteration)
    }

    fn draws_frames(&self, run: &Path) -> bool {
        self.runs.get(run).is_some_and(RunVideos::draws_frames)
    }
}
