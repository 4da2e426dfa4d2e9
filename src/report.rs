//! Reports with pictures and facts: lends `isr-report` the frames of each run's own video config, and what
//! its data and evaluator know.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_analysis::report::ReportError;
use isr_api::{BuildContext, Frames, SampleId, VideoReader};
use isr_config::registry::VideoConfig;
use tokio::runtime::Handle;

use crate::audit::Facts;

/// Writes the report of `runs` to the file `out`. A video that cannot be read any more, or whose run
/// names a reader that is not there, is said to be missing in the report.
///
/// Blocks; call it outside of asynchronous code.
///
/// # Errors
/// See [`isr_analysis::report::write_report`].
pub fn write_report(runs: &[PathBuf], out: &Path, runtime: &Handle) -> Result<(), ReportError> {
    let readers: Vec<_> = runs.iter().filter_map(|run| video_reader(run)).collect();
    let frames = |video: &str| -> Option<Frames> {
        let video = Path::new(video);
        readers.iter().find_map(|reader| runtime.block_on(reader.read(video)).ok())
    };
    // Each run's facts, where its data and evaluator know any.
    let facts: HashMap<&Path, Facts> =
        runs.iter().filter_map(|run| Some((run.as_path(), Facts::of_run(run, runtime).ok()?))).collect();
    let quality = |run: &Path, sample: &SampleId, answer: &str| facts.get(run)?.quality(sample, answer);
    isr_analysis::report::write_report(runs, out, &frames, &quality)
}

/// The reader of a run. Only `[video]` is read: the model may have moved since.
pub(crate) fn video_reader(run: &Path) -> Option<Arc<dyn VideoReader>> {
    let text = std::fs::read_to_string(run.join("config.toml")).ok()?;
    let settings: serde_json::Value = toml::from_str(&text).ok()?;
    let config: Box<dyn VideoConfig> = serde_json::from_value(settings.get("video")?.clone()).ok()?;
    config.build(&BuildContext { config: settings }).ok()
}
