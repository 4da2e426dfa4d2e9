//! The other components: small, deterministic, and just good enough that training teaches something.
//! What is true of every video is that it is red.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    Assessment, Candidate, ComponentError, Decision, Evaluator, FeatureType, Fingerprint, Frames,
    FrozenPolicy, Judge, JudgeCase, LabelledSample, ObjectiveBatch, ObjectiveValue, PreferenceObjective,
    Prompt, Requirements, RetrospectionCase, Retrospector, Sample, SampleId, SampleSource, Sampling,
    Selection, Verdict, VideoEncoder, VideoReader, View, VisualFeatures, Vote,
};

use crate::control::Control;

pub(crate) struct FakeSource {
    pub(crate) training: Vec<Sample>,
    pub(crate) evaluation: Vec<Sample>,
    pub(crate) control: Arc<Control>,
}

/// `count` samples, two a video.
pub(crate) fn samples(prefix: &str, count: usize) -> Vec<Sample> {
    let sample = |index: usize| Sample {
        id: SampleId(format!("{prefix}{index}")),
        video: PathBuf::from(format!("clips/{prefix}{}.mp4", index / 2)),
        instruction: format!("What colour is object {index}?"),
    };
    (0..count).map(sample).collect()
}

fn labelled(samples: &[Sample]) -> Vec<LabelledSample> {
    let reference = || "red red red".to_owned();
    let label = |sample: &Sample| LabelledSample {
        sample: sample.clone(),
        reference: reference(),
        facts: serde_json::Value::Null,
    };
    samples.iter().map(label).collect()
}

#[async_trait]
impl SampleSource for FakeSource {
    async fn prepare(&self) -> Result<(), ComponentError> {
        self.control.enter("prepare").await
    }

    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        Ok(self.training.clone())
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(labelled(&self.evaluation))
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(labelled(&self.training))
    }
}

pub(crate) struct FakeReader {
    pub(crate) frames: u8,
    /// Whether frames are drawn: then they say by which seed.
    pub(crate) draws: bool,
    pub(crate) control: Arc<Control>,
}

/// Time of the first frame that a seed draws, in seconds.
pub(crate) fn drawn_time(seed: u64) -> f64 {
    1.0 + seed as f64 / u64::MAX as f64
}

#[async_trait]
impl VideoReader for FakeReader {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of([self.frames])
    }

    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        self.control.enter(&format!("read {}", video.display())).await?;
        let count = usize::from(self.frames);
        let timestamps = (0..count).map(|index| index as f64).collect();
        let rgb = (0..3 * 16 * count).map(|index| index as u8).collect();
        Frames::new(4, 4, rgb, timestamps)
    }

    fn draws_frames(&self) -> bool {
        self.draws
    }

    async fn draw(&self, video: &Path, seed: u64) -> Result<Frames, ComponentError> {
        self.control.enter(&format!("draw {} {seed}", video.display())).await?;
        let count = usize::from(self.frames);
        let timestamps = (0..count).map(|index| drawn_time(seed) + index as f64).collect();
        let rgb = (0..3 * 16 * count).map(|index| index as u8 ^ (seed % 251 + 1) as u8).collect();
        Frames::new(4, 4, rgb, timestamps)
    }
}

pub(crate) struct FakeEncoder {
    pub(crate) control: Arc<Control>,
}

#[async_trait]
impl VideoEncoder for FakeEncoder {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("fake encoder")
    }

    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
        self.control.enter("encode").await?;
        let (shape, bytes) = ([frames.len(), 1, 1], vec![0; 4 * frames.len()]);
        Ok(VisualFeatures { dtype: FeatureType::F32, shape, bytes, encoder: self.fingerprint() })
    }
}

/// Says what the policy sees, and quotes what was said before.
pub(crate) struct FakeRetrospector {
    pub(crate) control: Arc<Control>,
}

#[async_trait]
impl Retrospector for FakeRetrospector {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        self.control.enter(&format!("describe {}", case.scene.key())).await?;
        let before = case.previous.as_ref().map_or("nothing", |context| context.text.as_str());
        let prompt = Prompt::about(&case.scene, format!("Describe it. Before: {before}"));
        let seen = policy.answer(prompt, Sampling::default(), case.seed).await?;
        Ok(format!("{} (before: {before})", seen.text))
    }
}

/// Prefers what is red, from both sides, with some noise.
pub(crate) struct FakeJudge {
    pub(crate) control: Arc<Control>,
}

fn redness(text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.iter().filter(|word| **word == "red").count() as f64 / words.len().max(1) as f64
}

#[async_trait]
impl Judge for FakeJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        self.control.enter(&format!("judge {} | {}", case.scene.key(), case.instruction)).await?;
        let hint = case.context.as_ref().map_or(0.0, |context| redness(&context.text));
        let noise = (case.seed % 1000) as f64 / 2000.0 - 0.25;
        let better = (1.0 + hint) * (redness(&case.first.text) - redness(&case.second.text));
        let vote = |first_shown_first: bool| {
            let bias = if first_shown_first { 0.2 } else { -0.2 };
            Vote { first_shown_first, p_first: 1.0 / (1.0 + (-(3.0 * better + noise + bias)).exp()) }
        };
        Ok(Verdict::from_votes(vec![vote(true), vote(false)]))
    }
}

/// Direct preference optimisation with beta = 1.
pub(crate) struct FakeObjective;

impl PreferenceObjective for FakeObjective {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen, View::Rejected]).with_reference()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let (chosen, rejected) = (batch.view(View::Chosen)?, batch.view(View::Rejected)?);
        let count = batch.pairs() as f64;
        let margins = (0..batch.pairs()).map(|pair| {
            chosen.policy[pair] - chosen.reference[pair] - rejected.policy[pair] + rejected.reference[pair]
        });
        let margins: Vec<f64> = margins.collect();
        let gradient: Vec<f64> = margins.iter().map(|margin| -1.0 / (1.0 + margin.exp()) / count).collect();
        Ok(ObjectiveValue {
            loss: margins.iter().map(|margin| (-margin).exp().ln_1p()).sum::<f64>() / count,
            gradients: vec![gradient.clone(), gradient.iter().map(|value| -value).collect()],
            metrics: BTreeMap::from([("reward_margin".to_owned(), margins.iter().sum::<f64>() / count)]),
        })
    }
}

/// A linear loss of all views, each with a weight of its own.
pub(crate) struct AllViews;

impl PreferenceObjective for AllViews {
    fn requirements(&self) -> Requirements {
        Requirements::new(View::ALL).with_reference()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let count = batch.pairs() as f64;
        let mut value = ObjectiveValue { loss: 0.0, gradients: Vec::new(), metrics: BTreeMap::new() };
        for (view, weight) in View::ALL.into_iter().zip([-1.0, 0.5, 0.25, 0.125]) {
            let found = batch.view(view)?;
            let ratio: f64 =
                found.policy.iter().zip(&found.reference).map(|(own, other)| own - other).sum();
            value.loss += weight * ratio / count;
            value.gradients.push(vec![weight / count; batch.pairs()]);
        }
        Ok(value)
    }
}

/// Keeps what both orders agree on.
pub(crate) struct FakeSelection;

impl Selection for FakeSelection {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        let decide = |candidate: &Candidate| match &candidate.verdict {
            verdict if !verdict.consistent => Decision::Drop("inconsistent".to_owned()),
            verdict if verdict.prefers_first() => Decision::ChooseFirst,
            _ => Decision::ChooseSecond,
        };
        candidates.iter().map(decide).collect()
    }
}

pub(crate) struct FakeEvaluator;

#[async_trait]
impl Evaluator for FakeEvaluator {
    async fn answer(&self, _: &LabelledSample, answer: &str) -> Result<Option<Assessment>, ComponentError> {
        let quality = redness(answer);
        Ok(Some(Assessment { quality, metrics: BTreeMap::from([("accuracy".to_owned(), quality)]) }))
    }

    async fn context(
        &self,
        sample: &LabelledSample,
        text: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        self.answer(sample, text).await
    }
}
