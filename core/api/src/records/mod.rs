//! The lines and files of a run directory. Each struct is one documented JSON object; fields are
//! only ever added, and `summary.json` carries a schema number.

mod annotation;
mod metrics;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::judge::Verdict;
use crate::policy::StepReport;
use crate::response::Response;
use crate::sample::SampleId;

pub use annotation::{Annotation, Choice};
pub use metrics::{Metrics, evaluation_metrics, iteration_metrics, step_metrics};

/// A line of `responses.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseRecord {
    /// The sample.
    pub sample: SampleId,
    /// Its video, as [`crate::VideoInput::key`] names it.
    pub video: String,
    /// The instruction as it was given to the policy.
    pub instruction: String,
    /// Seed of the draws.
    pub seed: u64,
    /// The sampled answers, in order.
    pub responses: Vec<Response>,
}

/// A line of `verdicts.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// The sample.
    pub sample: SampleId,
    /// Seed that the judge was given.
    pub seed: u64,
    /// Iteration of the visual context that the judge saw; null where it saw none.
    pub context: Option<u32>,
    /// The video whose context it was; not written where it was the sample's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_of: Option<String>,
    /// Which two of the sampled answers were compared, by index: of more than two, the best and the worst.
    pub compared: [usize; 2],
    /// The judge's answer.
    pub verdict: Verdict,
    /// All comparisons that best and worst were found by; empty, and not written, where there was but one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<ComparisonRecord>,
    /// True where the judge knows what is true ([`isr_config::is_oracle`]); not written where it does
    /// not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oracle: bool,
}

/// One comparison among more than two answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRecord {
    /// Which two of the sampled answers, by index.
    pub compared: [usize; 2],
    /// Seed that the judge was given.
    pub seed: u64,
    /// The judge's answer.
    pub verdict: Verdict,
}

/// Whether a mark may be left out of a record.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(mark: &bool) -> bool {
    !mark
}

/// A line of `pairs.jsonl`: LLaVA-Hound's preference layout (`id`, `video`, `prompt`, `chosen`,
/// `rejected`) with where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairRecord {
    /// The sample.
    pub id: SampleId,
    /// Its video.
    pub video: String,
    /// The instruction.
    pub prompt: String,
    /// Text of the preferred answer.
    pub chosen: String,
    /// Text of the other answer.
    pub rejected: String,
    /// Index of the preferred answer in the sample's line of `responses.jsonl`.
    pub chosen_index: usize,
    /// Index of the other answer.
    pub rejected_index: usize,
    /// The judge's probability that `chosen` is better.
    pub p_chosen: f64,
    /// As in [`VerdictRecord`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub oracle: bool,
}

/// A line of `references.jsonl`: what an objective asks for beside a pair's two answers, with its log-probs
/// under pi_t, which nothing had recorded. There is such a file for such an objective only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// The pair's sample.
    pub sample: SampleId,
    /// For [`crate::View::ChosenCorrupted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupted: Option<CorruptedRecord>,
    /// For [`crate::View::Mismatched`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatched: Option<MismatchedRecord>,
}

/// The preferred answer after the prompt with a corrupted video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorruptedRecord {
    /// Seed of the corruption.
    pub seed: u64,
    /// Log-prob of each token of the preferred answer.
    pub logprobs: Vec<f32>,
}

/// An answer of another pair after this pair's prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MismatchedRecord {
    /// The other pair's sample.
    pub sample: SampleId,
    /// Index of the answer in that sample's line of `responses.jsonl`.
    pub index: usize,
    /// Log-prob of each of its tokens.
    pub logprobs: Vec<f32>,
}

/// A line of `quarantine.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// The stage that gave up on it (`respond`, `retrospect`, `judge`, `reference`, `evaluate`).
    pub stage: String,
    /// The sample's id, or the video's path in `retrospect`.
    pub subject: String,
    /// Why, as the component said it.
    pub reason: String,
}

/// A line of `metrics.jsonl`: one optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Step within this iteration's training, from 0.
    pub step: u64,
    /// Epoch of the step's first pair, from 0.
    pub epoch: u64,
    /// Learning rate.
    pub learning_rate: f64,
    /// The step's figures.
    #[serde(flatten)]
    pub report: StepReport,
}

/// A line of `evaluation.jsonl`: one held-out sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// The sample.
    pub sample: SampleId,
    /// Its video.
    pub video: String,
    /// The instruction.
    pub instruction: String,
    /// The greedy answer.
    pub greedy: Response,
    /// The answer sampled as in training.
    pub sampled: Response,
    /// Figures of the greedy answer.
    pub greedy_metrics: BTreeMap<String, f64>,
    /// Figures of the sampled answer.
    pub sampled_metrics: BTreeMap<String, f64>,
}

/// `evaluation.json`: means over held-out samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Held-out samples measured.
    pub samples: usize,
    /// Held-out samples left out because they could not be read or answered.
    pub quarantined: usize,
    /// Fingerprint of the weights that were measured.
    pub policy: Fingerprint,
    /// Greedy answers: `accuracy`, `hallucination`, `response_tokens`, ... as the evaluator names them.
    pub greedy: BTreeMap<String, f64>,
    /// Answers sampled as in training.
    pub sampled: BTreeMap<String, f64>,
}

/// How the judge did in one iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JudgeSummary {
    /// Verdicts given.
    pub verdicts: usize,
    /// Share of verdicts that agree with the exact facts, among pairs whose answers differ in quality;
    /// null where no truth is known.
    pub agreement: Option<f64>,
    /// Verdicts that `agreement` was computed from.
    pub agreement_of: usize,
    /// Share of verdicts whose votes in both orders prefer the same answer.
    pub position_consistency: f64,
    /// Share of verdicts that prefer the answer with more tokens, among pairs of unequal length; null
    /// where all were equal.
    pub longer_preferred: Option<f64>,
    /// Mean distance of the probability from one half.
    pub margin: f64,
    /// As in [`VerdictRecord`]: what is learned from an oracle says nothing of what a judge can do.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oracle: bool,
}

/// What selection did in one iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairSummary {
    /// Pairs kept.
    pub kept: usize,
    /// Candidates dropped, by reason.
    pub dropped: BTreeMap<String, usize>,
}

/// How training went in one iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Optimiser steps.
    pub steps: u64,
    /// Loss of the first step, before any update.
    pub first_loss: f64,
    /// Mean loss of the last epoch.
    pub last_loss: f64,
    /// Mean gradient norm before clipping.
    pub grad_norm: f64,
    /// Means of the objective's figures over the last epoch (`reward_margin`, `accuracy`, ...).
    pub metrics: BTreeMap<String, f64>,
}

/// A row of `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IterationSummary {
    /// The iteration, from 1.
    pub iteration: u32,
    /// Samples that it began with.
    pub samples: usize,
    /// Samples and videos quarantined, by stage.
    pub quarantined: BTreeMap<String, usize>,
    /// Fingerprint of the weights that answered, described and judged: the reference of training.
    pub policy: Fingerprint,
    /// Mean tokens of the sampled answers.
    pub response_tokens: f64,
    /// Means of the evaluator's figures over the visual contexts; empty where none are known.
    pub contexts: BTreeMap<String, f64>,
    /// The judge.
    pub judge: JudgeSummary,
    /// Selection.
    pub pairs: PairSummary,
    /// Training.
    pub training: TrainSummary,
    /// The trained model on held-out samples; null where the config evaluates nothing.
    pub evaluation: Option<EvaluationRecord>,
}

/// `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this format: 1.
    pub schema: u32,
    /// The run's name.
    pub run: String,
    /// Fingerprint of the resolved config.
    pub config: Fingerprint,
    /// The starting model on held-out samples; null where the config evaluates nothing.
    pub base: Option<EvaluationRecord>,
    /// One row a completed iteration.
    pub iterations: Vec<IterationSummary>,
}
