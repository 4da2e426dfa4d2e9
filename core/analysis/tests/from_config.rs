//! Async entry points, awaited inside runtimes.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod fixture;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use fixture::{Fixture, facts, frames};
use isr_analysis::export::{Export, Format};
use isr_analysis::from_config::{audit_run, write_export, write_report};
use isr_analysis::report::render_report;
use isr_api::{
    Assessment, BuildContext, Cause, Component, ComponentError, Evaluator, Fingerprint, Frames,
    LabelledSample, Sample, SampleSource, VideoReader,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::tempdir;

/// Components of the synthetic runs, all of which give way to the runtime before they answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Synthetic {}

isr_config::register!(Video "synthetic" => SyntheticVideo, example = "");
isr_config::register!(Data "synthetic" => SyntheticData, example = "");
isr_config::register!(Evaluator "synthetic" => SyntheticEvaluator, example = "");

/// Frames of the fixture.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct SyntheticVideo {}

/// Samples of the fixture.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct SyntheticData {}

/// Facts of the fixture.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct SyntheticEvaluator {}

impl Component for SyntheticVideo {
    type Built = Arc<dyn VideoReader>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Synthetic {}))
    }
}

impl Component for SyntheticData {
    type Built = Arc<dyn SampleSource>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Synthetic {}))
    }
}

impl Component for SyntheticEvaluator {
    type Built = Arc<dyn Evaluator>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Synthetic {}))
    }
}

#[async_trait]
impl VideoReader for Synthetic {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("synthetic")
    }

    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        tokio::task::yield_now().await;
        frames(Path::new(""), &video.to_string_lossy())
            .ok_or_else(|| ComponentError::bad_input("no such video"))
    }
}

#[async_trait]
impl SampleSource for Synthetic {
    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        Ok(Vec::new())
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(Vec::new())
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        tokio::task::yield_now().await;
        let sample = |index: usize| LabelledSample {
            sample: Sample {
                id: format!("clip-{index:04}/q1").as_str().into(),
                video: "unused".into(),
                instruction: String::new(),
            },
            reference: String::new(),
            facts: serde_json::Value::Null,
        };
        Ok((0..40).map(sample).collect())
    }
}

#[async_trait]
impl Evaluator for Synthetic {
    async fn answer(
        &self,
        sample: &LabelledSample,
        answer: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        let quality = facts(Path::new(""), &sample.sample.id, answer);
        Ok(quality.map(|quality| Assessment { quality, ..Assessment::default() }))
    }
}

const COMPONENTS: &str =
    "[video]\ntype = \"synthetic\"\n[data]\ntype = \"synthetic\"\n[evaluator]\ntype = \"synthetic\"\n";

#[tokio::test]
async fn a_report_awaited_on_one_thread_has_the_frames_and_facts_of_the_runs_config() {
    let root = tempdir().unwrap();
    let run = Fixture::default().write(root.path());
    fs::write(run.join("config.toml"), COMPONENTS).unwrap();
    let out = root.path().join("report.html");
    write_report(std::slice::from_ref(&run), &out).await.unwrap();
    let expected = render_report(&[run], &frames, &facts).unwrap();
    assert!(fs::read_to_string(&out).unwrap() == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_can_be_spawned_and_says_why_it_has_no_facts() {
    let root = tempdir().unwrap();
    let run = Fixture::default().write(root.path());
    let plain = run.clone();
    let audited = tokio::spawn(async move { audit_run(&plain, &[]).await }).await.unwrap().unwrap();
    assert!(audited.no_facts.is_some() && audited.audit.judges.iter().all(|judge| judge.truth.is_none()));
    fs::write(run.join("config.toml"), COMPONENTS).unwrap();
    let audited = audit_run(&run, &[]).await.unwrap();
    assert_eq!(audited.no_facts, None);
    assert!(audited.audit.judges.iter().all(|judge| judge.truth.is_some()));
}

#[tokio::test]
async fn an_export_awaited_on_one_thread_writes_the_frames_that_the_run_saw() {
    let root = tempdir().unwrap();
    let run = Fixture::default().write(root.path());
    fs::write(run.join("config.toml"), COMPONENTS).unwrap();
    let (out, pictures) = (root.path().join("pairs.jsonl"), root.path().join("pictures"));
    let export = Export {
        format: Format::Trl,
        iteration: Some(1),
        unselected: false,
        reasoning: false,
        video_root: root.path().to_owned(),
    };
    let exported = write_export(&run, &export, &out, Some(&pictures)).await.unwrap();
    assert!(exported.pairs > 0 && exported.unreadable == 0, "{exported:?}");
    assert!(fs::read_dir(&pictures).unwrap().count() > 0);
}
