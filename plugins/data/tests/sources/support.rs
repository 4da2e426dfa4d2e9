//! Sources built from config text, and what they say.

use std::path::Path;
use std::sync::Arc;

use isr_api::{BuildContext, LabelledSample, Sample, SampleSource};
use isr_config::registry::DataConfig;
use isr_data as _;
use tempfile::TempDir;

/// A folder with a file `train.jsonl`.
pub(crate) fn folder_with(list: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("train.jsonl"), list).unwrap();
    folder
}

/// The config of a `[data]` section in which `DIR` stands for the folder.
pub(crate) fn config(folder: &Path, toml: &str) -> Box<dyn DataConfig> {
    let text = toml.replace("DIR", &folder.to_string_lossy());
    let value: serde_json::Value = toml::from_str(&text).unwrap();
    serde_json::from_value(value).unwrap()
}

pub(crate) fn source(folder: &Path, toml: &str) -> Arc<dyn SampleSource> {
    config(folder, toml).build(&BuildContext::default()).unwrap()
}

/// The training samples, or the message that a run would stop with.
pub(crate) fn training(folder: &Path, toml: &str) -> Result<Vec<Sample>, String> {
    let source = source(folder, toml);
    wait(async {
        source.prepare().await?;
        source.training().await
    })
    .map_err(|error| shown(folder, &error))
}

pub(crate) fn evaluation(folder: &Path, toml: &str) -> Result<Vec<LabelledSample>, String> {
    let source = source(folder, toml);
    wait(source.evaluation()).map_err(|error| shown(folder, &error))
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn shown(folder: &Path, error: &isr_api::ComponentError) -> String {
    error.to_string().replace(&*folder.to_string_lossy(), "DIR")
}
