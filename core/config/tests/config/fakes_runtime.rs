//! What the fake components build; nothing calls it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    Assessment, Candidate, CheckpointKind, ComponentError, Decision, Evaluator, Fingerprint, Frames,
    FrozenPolicy, GenerateRequest, Judge, JudgeCase, LabelledSample, ObjectiveBatch, ObjectiveValue,
    Policy, PreferenceObjective, Requirements, Response, RetrospectionCase, Retrospector, Sample,
    SampleSource, ScoreRequest, Selection, StepReport, TokenLogProbs, TrainStep, Verdict, VideoEncoder,
    VideoReader, VisualFeatures,
};

pub(crate) struct Fake;

type Outcome<T> = Result<T, ComponentError>;

#[async_trait]
impl SampleSource for Fake {
    async fn training(&self) -> Outcome<Vec<Sample>> {
        unreachable!()
    }
    async fn evaluation(&self) -> Outcome<Vec<LabelledSample>> {
        unreachable!()
    }
}

#[async_trait]
impl VideoReader for Fake {
    fn fingerprint(&self) -> Fingerprint {
        unreachable!()
    }
    async fn read(&self, _: &Path) -> Outcome<Frames> {
        unreachable!()
    }
}

#[async_trait]
impl VideoEncoder for Fake {
    fn fingerprint(&self) -> Fingerprint {
        unreachable!()
    }
    async fn encode(&self, _: &Frames) -> Outcome<VisualFeatures> {
        unreachable!()
    }
}

#[async_trait]
impl Policy for Fake {
    fn fingerprint(&self) -> Fingerprint {
        unreachable!()
    }
    async fn generate(&self, _: GenerateRequest) -> Outcome<Vec<Response>> {
        unreachable!()
    }
    async fn score(&self, _: ScoreRequest) -> Outcome<Vec<TokenLogProbs>> {
        unreachable!()
    }
    async fn train_step(&self, _: TrainStep, _: Arc<dyn PreferenceObjective>) -> Outcome<StepReport> {
        unreachable!()
    }
    async fn save(&self, _: &Path, _: CheckpointKind) -> Outcome<()> {
        unreachable!()
    }
    async fn load(&self, _: &Path, _: CheckpointKind) -> Outcome<()> {
        unreachable!()
    }
}

#[async_trait]
impl Retrospector for Fake {
    async fn describe(&self, _: &RetrospectionCase, _: &FrozenPolicy) -> Outcome<String> {
        unreachable!()
    }
}

#[async_trait]
impl Judge for Fake {
    async fn judge(&self, _: &JudgeCase, _: &FrozenPolicy) -> Outcome<Verdict> {
        unreachable!()
    }
}

impl PreferenceObjective for Fake {
    fn requirements(&self) -> Requirements {
        unreachable!()
    }
    fn evaluate(&self, _: &ObjectiveBatch) -> Outcome<ObjectiveValue> {
        unreachable!()
    }
}

impl Selection for Fake {
    fn select(&self, _: &[Candidate]) -> Vec<Decision> {
        unreachable!()
    }
}

#[async_trait]
impl Evaluator for Fake {
    async fn answer(&self, _: &LabelledSample, _: &str) -> Result<Option<Assessment>, ComponentError> {
        unreachable!()
    }
}
