//! File formats of a run directory: one struct per JSON object.
//!
//! Fields are only ever added; `summary.json` carries a schema number.

mod annotation;
mod metrics;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::judge::Verdict;
use crate::policy::StepReport;
use crate::prompt::Turn;
use crate::response::Response;
use crate::sample::SampleId;

pub use crate::choice::Choice;
pub use annotation::Annotation;
pub use metrics::{Metrics, evaluation_metrics, iteration_metrics, step_metrics};

/// A line of `responses.jsonl`: the responses to one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseRecord {
    /// Id of the sample.
    pub sample: SampleId,
    /// Key of the sample's video ([`crate::VideoInput::key`]).
    pub video: String,
    /// Instruction given to the policy.
    pub instruction: String,
    /// Seed of the generation request.
    pub seed: u64,
    /// Responses, in the order of sampling.
    pub responses: Vec<Response>,
}

/// A line of `preferences.jsonl`: a pair of a dataset, scored under pi_t.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferenceRecord {
    /// Id of the pair.
    pub id: SampleId,
    /// File and line or row that it was read from.
    pub origin: String,
    /// Key of the video or image; empty without one.
    pub video: String,
    /// Turns before the instruction; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// The instruction: text of the last user turn.
    pub instruction: String,
    /// Probability that the first response is better; 1 where the dataset does not say.
    pub p_chosen: f64,
    /// The chosen and the rejected response: their tokens with the end of the turn, and the log-prob of each under pi_t.
    pub responses: [Response; 2],
}

/// A line of `verdicts.jsonl`: the verdict on one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// Id of the sample.
    pub sample: SampleId,
    /// Seed of the judge call.
    pub seed: u64,
    /// Iteration of the visual context in the judge's input; null without a context.
    pub context: Option<u32>,
    /// Key of the video that the context describes; absent if it is the sample's own video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_of: Option<String>,
    /// Indices of the two compared responses; with more than two responses, the best and the worst.
    pub compared: [usize; 2],
    /// The judge's verdict on them, in the order of `compared`.
    pub verdict: Verdict,
    /// All comparisons between more than two responses (JSON key `rounds`). Empty, and absent from JSON, for a
    /// single comparison.
    #[serde(default, rename = "rounds", skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<ComparisonRecord>,
    /// Whether the judge reads ground truth (its config has `oracle = true`); absent from JSON if false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oracle: bool,
}

/// One of the comparisons between more than two responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRecord {
    /// Indices of the two responses.
    pub compared: [usize; 2],
    /// Seed of the judge call.
    pub seed: u64,
    /// The judge's verdict, in the order of `compared`.
    pub verdict: Verdict,
}

/// Whether a flag is omitted from JSON.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(mark: &bool) -> bool {
    !mark
}

/// Whether a count is omitted from JSON.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A line of `pairs.jsonl`: a preference pair in LLaVA-Hound's layout (`id`, `video`, `prompt`, `chosen`,
/// `rejected`), with its provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairRecord {
    /// Id of the sample.
    pub id: SampleId,
    /// Key of the sample's video; empty for a pair of a dataset without one.
    pub video: String,
    /// Turns before the instruction, in pairs of datasets; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// The instruction.
    pub prompt: String,
    /// Text of the chosen response.
    pub chosen: String,
    /// Text of the rejected response.
    pub rejected: String,
    /// Index of the chosen response in the sample's line of `responses.jsonl`, or of `preferences.jsonl` with `origin`.
    pub chosen_index: usize,
    /// Index of the rejected response there.
    pub rejected_index: usize,
    /// The judge's probability that `chosen` is better.
    pub p_chosen: f64,
    /// As [`VerdictRecord::oracle`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub oracle: bool,
    /// File and line or row of a pair that was read from a dataset; absent for pairs that this run sampled and judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// A line of `references.jsonl`: reference log-probs (under pi_t) of the additional views of one pair. The file
/// exists only if the objective requires such views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceRecord {
    /// Id of the pair's sample.
    pub sample: SampleId,
    /// Present if the objective requires [`crate::View::ChosenCorrupted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupted: Option<CorruptedRecord>,
    /// Present if the objective requires [`crate::View::Mismatched`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatched: Option<MismatchedRecord>,
    /// Present with `train.reference = "recompute"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recomputed: Option<RecomputedRecord>,
}

/// The responses of a pair, scored instead of recorded while sampling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecomputedRecord {
    /// Reference log-prob of each token of the chosen response.
    pub chosen: Vec<f32>,
    /// Reference log-prob of each token of the rejected response.
    pub rejected: Vec<f32>,
}

/// The chosen response after the prompt with a corrupted video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorruptedRecord {
    /// Seed of the crop window.
    pub seed: u64,
    /// Reference log-prob of each token of the chosen response.
    pub logprobs: Vec<f32>,
}

/// A response of another pair after this pair's prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MismatchedRecord {
    /// Id of the other pair's sample.
    pub sample: SampleId,
    /// Index of the response in that sample's line of `responses.jsonl`.
    pub index: usize,
    /// Reference log-prob of each token of the response.
    pub logprobs: Vec<f32>,
}

/// A line of `quarantine.jsonl`: one rejected sample or video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// Stage that rejected it: `respond`, `retrospect`, `judge`, `preferences`, `reference` or `evaluate`; in `isr sft`,
    /// `demonstrations`.
    pub stage: String,
    /// Id of the sample; in `retrospect`, key of the video; file and line of a dataset's row that cannot be used.
    pub subject: String,
    /// The component's error message.
    pub reason: String,
}

/// A line of `metrics.jsonl`: one optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Step within this iteration, from 0.
    pub step: u64,
    /// Epoch that the step belongs to, from 0.
    pub epoch: u64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Loss, gradient norm and metrics; flattened into this object.
    #[serde(flatten)]
    pub report: StepReport,
}

/// A line of `evaluation.jsonl`: one held-out sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// Id of the sample.
    pub sample: SampleId,
    /// Key of the sample's video.
    pub video: String,
    /// Instruction given to the policy.
    pub instruction: String,
    /// Response by greedy decoding.
    pub greedy: Response,
    /// Response by the loop's sampling parameters.
    pub sampled: Response,
    /// The evaluator's metrics of `greedy`.
    pub greedy_metrics: BTreeMap<String, f64>,
    /// The evaluator's metrics of `sampled`.
    pub sampled_metrics: BTreeMap<String, f64>,
}

/// `evaluation.json`: metrics of one policy, means over held-out samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Number of evaluated samples.
    pub samples: usize,
    /// Number of quarantined samples, which the means leave out.
    pub quarantined: usize,
    /// Fingerprint of the evaluated policy.
    pub policy: Fingerprint,
    /// Metrics of greedy responses: `response_tokens`, and those of the evaluator (`accuracy`, ...); of responses that
    /// reason also `reasoning_tokens` and `unanswered`, the share that gives no answer.
    pub greedy: BTreeMap<String, f64>,
    /// The same metrics of responses by the loop's sampling parameters.
    pub sampled: BTreeMap<String, f64>,
}

/// Statistics of the judge in one iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JudgeSummary {
    /// Number of verdicts.
    pub verdicts: usize,
    /// Number of ties among them: verdicts that prefer neither response ([`Choice::of_probability`]). They are left out
    /// of `agreement` and `longer_preferred`.
    #[serde(default)]
    pub ties: usize,
    /// Share of decided verdicts that agree with the ground truth, among pairs of different quality; null without ground
    /// truth.
    pub agreement: Option<f64>,
    /// Number of verdicts behind `agreement`.
    pub agreement_of: usize,
    /// Share of consistent verdicts ([`Verdict::consistent`]): no two votes prefer different responses.
    pub position_consistency: f64,
    /// Share of decided verdicts that prefer the response with more tokens, among pairs of unequal length; null if there
    /// are none.
    pub longer_preferred: Option<f64>,
    /// Number of verdicts behind `longer_preferred`.
    #[serde(default)]
    pub longer_preferred_of: usize,
    /// Mean margin |p - 0.5|, in [0, 0.5].
    pub margin: f64,
    /// Whether any verdict came from an oracle ([`VerdictRecord::oracle`]). Such a run is an upper bound, no
    /// measurement of a judge.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oracle: bool,
}

/// Statistics of the reasoning that responses of one iteration have before their answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReasoningSummary {
    /// Number of responses that reason.
    pub responses: usize,
    /// Mean length of their reasoning in tokens, markers included.
    pub tokens: f64,
    /// Number of those that give no answer, such as those that the length limit ended within their reasoning.
    pub unanswered: usize,
}

/// Statistics of the selection in one iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairSummary {
    /// Number of preference pairs kept.
    pub kept: usize,
    /// Number of dropped candidates by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Number of pairs among `kept` that come from datasets ([`PairRecord::origin`]); absent if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub from_data: usize,
}

/// Statistics of the training in one iteration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Number of optimiser steps.
    pub steps: u64,
    /// Loss of the first step, before any update.
    pub first_loss: f64,
    /// Mean loss of the last epoch.
    pub last_loss: f64,
    /// Mean gradient norm over all steps, before clipping.
    pub grad_norm: f64,
    /// Means of the objective's metrics over the last epoch: `reward_margin`, `accuracy`, ...
    pub metrics: BTreeMap<String, f64>,
}

/// A row of `summary.json`: one completed iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IterationSummary {
    /// The iteration, from 1.
    pub iteration: u32,
    /// Number of training samples at the start.
    pub samples: usize,
    /// Number of quarantined samples and videos by stage.
    pub quarantined: BTreeMap<String, usize>,
    /// Fingerprint of pi_t, the policy that generated the responses; the reference policy of training.
    pub policy: Fingerprint,
    /// Mean length of the responses in tokens, without their reasoning.
    pub response_tokens: f64,
    /// Statistics of the reasoning before answers; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningSummary>,
    /// Means of the evaluator's metrics over the visual contexts; empty without ground truth.
    pub contexts: BTreeMap<String, f64>,
    /// Statistics of the judge.
    pub judge: JudgeSummary,
    /// Statistics of the selection.
    pub pairs: PairSummary,
    /// Statistics of the training.
    pub training: TrainSummary,
    /// Metrics of the trained policy pi_{t+1}; null without an evaluator.
    pub evaluation: Option<EvaluationRecord>,
}

/// `summary.json`: the results of a run so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this format, 1.
    pub schema: u32,
    /// Name of the run.
    pub run: String,
    /// Fingerprint of the resolved config.
    pub config: Fingerprint,
    /// Metrics of the initial policy; null without an evaluator.
    pub base: Option<EvaluationRecord>,
    /// Completed iterations, in order.
    pub iterations: Vec<IterationSummary>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_written_as_rounds_and_only_if_there_are_any() {
        let comparison = ComparisonRecord { compared: [0, 2], seed: 1, verdict: Verdict::of(1.0) };
        let record = |comparisons| VerdictRecord {
            sample: "a".into(),
            seed: 1,
            context: None,
            context_of: None,
            compared: [0, 2],
            verdict: Verdict::of(1.0),
            comparisons,
            oracle: false,
        };
        let keys = |record: &VerdictRecord| -> Vec<String> {
            serde_json::to_value(record).unwrap().as_object().unwrap().keys().cloned().collect()
        };
        let single = keys(&record(Vec::new()));
        assert!(!single.iter().any(|key| key == "rounds" || key == "comparisons"), "{single:?}");
        let several = record(vec![comparison]);
        assert!(keys(&several).iter().any(|key| key == "rounds"));
        let text = serde_json::to_string(&several).unwrap();
        assert_eq!(serde_json::from_str::<VerdictRecord>(&text).unwrap(), several);
    }
}
