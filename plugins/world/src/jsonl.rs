//! The sample source `jsonl`: lists of anyone's videos.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_core::config::did_you_mean;
use isr_core::registry::{BuildContext, Component};
use isr_core::{Cause, ComponentError, LabelledSample, Sample, SampleSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::WorldError;
use crate::record::{self, Line};
use crate::source::blocking;

/// Your own videos: JSONL lists in LLaVA-Hound's layout, one object a line with `id`, `video` and
/// `prompt` (or `conversations`), and for evaluation `answer`. Training reads no answers, whether the
/// list has them or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// The training list.
    pub training: PathBuf,
    /// The held-out list, with answers; it may share no video with `training`. Default: none.
    #[serde(default)]
    pub evaluation: Option<PathBuf>,
    /// Training samples with answers, to measure judges and contexts with; no training code sees it.
    /// Default: none.
    #[serde(default)]
    pub audit: Option<PathBuf>,
    /// Folder that relative `video` paths start from. Default: the folder of each list.
    #[serde(default)]
    pub video_root: Option<PathBuf>,
}

impl Component for JsonlConfig {
    type Built = Arc<dyn SampleSource>;

    fn validate(&self) -> Result<(), String> {
        let lists = [
            ("training", Some(&self.training)),
            ("evaluation", self.evaluation.as_ref()),
            ("audit", self.audit.as_ref()),
            ("video_root", self.video_root.as_ref()),
        ];
        let given = lists.into_iter().filter_map(|(key, path)| Some((key, path?)));
        match given.into_iter().find(|(_, path)| !path.exists()) {
            Some((key, path)) => {
                Err(format!("{key} is {}, which does not exist{}", path.display(), did_you_mean(path)))
            }
            None => Ok(()),
        }
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn SampleSource>, Cause> {
        Ok(Arc::new(JsonlSource { config: self.clone() }))
    }
}

isr_core::register!(
    Data "jsonl" => JsonlConfig,
    example = "training = \"data/train.jsonl\"\nevaluation = \"data/evaluation.jsonl\"\nvideo_root = \"data\"\n"
);

/// Samples from JSONL lists.
#[derive(Clone, Debug)]
pub struct JsonlSource {
    config: JsonlConfig,
}

impl JsonlSource {
    /// The source of those lists, which are read when they are asked for.
    pub fn new(config: JsonlConfig) -> Self {
        Self { config }
    }

    fn read(&self, path: &Path) -> Result<Vec<Line>, WorldError> {
        let beside = path.parent().unwrap_or(Path::new(""));
        record::read(path, self.config.video_root.as_deref().unwrap_or(beside))
    }

    fn labelled(&self, path: Option<&Path>) -> Result<Vec<LabelledSample>, WorldError> {
        let Some(path) = path else { return Ok(Vec::new()) };
        let label = |line: Line| match line.answer {
            Some(reference) => Ok(LabelledSample { sample: line.sample, reference, facts: line.facts }),
            None => Err(WorldError::NoAnswer { path: path.to_owned(), id: line.sample.id }),
        };
        self.read(path)?.into_iter().map(label).collect()
    }

    /// Reads every list, so that a bad one is found before the run starts.
    fn check(&self) -> Result<(), WorldError> {
        let training: HashSet<_> =
            self.read(&self.config.training)?.into_iter().map(|line| line.sample.video).collect();
        self.labelled(self.config.audit.as_deref())?;
        let Some(evaluation) = &self.config.evaluation else { return Ok(()) };
        let held_out = self.labelled(Some(evaluation))?;
        match held_out.into_iter().find(|it| training.contains(&it.sample.video)) {
            None => Ok(()),
            Some(shared) => Err(WorldError::SharedVideo {
                training: self.config.training.clone(),
                evaluation: evaluation.clone(),
                video: shared.sample.video,
            }),
        }
    }
}

#[async_trait]
impl SampleSource for JsonlSource {
    async fn prepare(&self) -> Result<(), ComponentError> {
        let source = self.clone();
        blocking(move || source.check()).await
    }

    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        let source = self.clone();
        let lines = blocking(move || source.read(&source.config.training)).await?;
        Ok(lines.into_iter().map(|line| line.sample).collect())
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let source = self.clone();
        blocking(move || source.labelled(source.config.evaluation.as_deref())).await
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let source = self.clone();
        blocking(move || source.labelled(source.config.audit.as_deref())).await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TRAIN: &str = r#"{"id": "a", "video": "1.mp4", "prompt": "what?", "answer": "not for training"}"#;
    const HELD_OUT: &str = r#"{"id": "b", "video": "2.mp4", "prompt": "what?", "answer": "this"}"#;

    fn source(folder: &Path, training: &str, evaluation: &str) -> JsonlSource {
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        JsonlSource::new(JsonlConfig {
            training: write("train.jsonl", training),
            evaluation: Some(write("evaluation.jsonl", evaluation)),
            audit: None,
            video_root: Some("videos".into()),
        })
    }

    #[tokio::test]
    async fn lists_are_read_and_training_sees_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path(), TRAIN, HELD_OUT);
        source.prepare().await.unwrap();
        let training = source.training().await.unwrap();
        assert_eq!(training[0].video, Path::new("videos/1.mp4"));
        assert!(!format!("{training:?}").contains("not for training"));
        assert_eq!(source.evaluation().await.unwrap()[0].reference, "this");
        assert!(source.audit().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_shared_video_is_refused_before_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path(), TRAIN, &HELD_OUT.replace("2.mp4", "1.mp4"));
        let message = source.prepare().await.unwrap_err().to_string();
        assert!(message.contains("share the video videos/1.mp4"), "{message}");
    }

    #[tokio::test]
    async fn a_broken_line_is_named_before_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let broken = source(folder.path(), &format!("{TRAIN}\n{{\"id\": 1}}\n"), HELD_OUT);
        let message = broken.prepare().await.unwrap_err().to_string();
        assert!(message.ends_with("train.jsonl:2: `prompt` is missing"), "{message}");
        let unanswered = source(folder.path(), TRAIN, r#"{"id": "b", "video": "2", "prompt": "what?"}"#);
        let message = unanswered.prepare().await.unwrap_err().to_string();
        assert!(message.contains("evaluation.jsonl: sample `b` has no `answer`"), "{message}");
        fs::remove_file(folder.path().join("train.jsonl")).unwrap();
        let message = unanswered.prepare().await.unwrap_err().to_string();
        assert!(message.starts_with("cannot read") && message.contains("train.jsonl"), "{message}");
    }
}
