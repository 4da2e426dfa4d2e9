//! The video reader of a run.

use std::path::Path;
use std::sync::Arc;

use isr_api::{BuildContext, VideoReader};
use isr_config::registry::VideoConfig;

/// Builds the reader that the run's `[video]` names; `None` where that cannot be done. No other section is read, since the model
/// may have moved.
pub(super) fn video_reader(run: &Path) -> Option<Arc<dyn VideoReader>> {
    let text = std::fs::read_to_string(run.join("config.toml")).ok()?;
    let settings: serde_json::Value = toml::from_str(&text).ok()?;
    let config: Box<dyn VideoConfig> = serde_json::from_value(settings.get("video")?.clone()).ok()?;
    config.build(&BuildContext { config: settings }).ok()
}
