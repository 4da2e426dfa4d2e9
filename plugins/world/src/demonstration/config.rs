//! What the warm start is made of, and what is built into it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Kind;

/// The default template of a description's prompt, also that of the method's retrospector.
pub const RETROSPECT_TEMPLATE: &str =
    "{% if previous %}previous description: {{ previous }}\n{% endif %}describe the video.";

/// The default template of a comparison's prompt, also that of the method's judge.
pub const JUDGE_TEMPLATE: &str = "{% if context %}context: {{ context }}\n{% endif %}question: {{ question }}\n\
                                  a: {{ first }}\nb: {{ second }}\nwhich answer is better, a or b?";

const READ_TEMPLATE: &str = "context: {{ context }}\nquestion: {{ question }}";
const CRITIQUE_TEMPLATE: &str = "{% if context %}context: {{ context }}\n{% endif %}question: {{ question }}\na: {{ first }}\nb: {{ second }}\n\
     check each answer, then say which is better.";

/// Relative frequencies of the kinds of demonstration; 0 leaves a kind out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KindWeights {
    /// Video and question to an answer, often wrong and wordy. Default 0.22.
    pub answer: f64,
    /// Video to a description. Default 0.28: description is the bottleneck.
    pub describe: f64,
    /// Video and a previous description to a better one. Default 0.12.
    pub refine: f64,
    /// Video, noisy context, question and two answers to the better one. Default 0.14.
    pub judge_context: f64,
    /// The same without context. Default 0.08.
    pub judge_blind: f64,
    /// Exact context, question and two answers to the better one, without video. Default 0.12.
    pub judge_text: f64,
    /// Exact context and question to the answer, without video. Default 0.04.
    pub read: f64,
    /// Video to a list of its objects, in which each word asks for the next: for a new tower, which learns
    /// to see from these with `policy.training.skip_decoder`. Default 0.
    pub list: f64,
}

impl Default for KindWeights {
    fn default() -> Self {
        Self {
            answer: 0.22,
            describe: 0.28,
            refine: 0.12,
            judge_context: 0.14,
            judge_blind: 0.08,
            judge_text: 0.12,
            read: 0.04,
            list: 0.0,
        }
    }
}

impl KindWeights {
    /// Each kind with its weight.
    pub(super) fn by_kind(&self) -> [(Kind, f64); 8] {
        [
            (Kind::Answer, self.answer),
            (Kind::Describe, self.describe),
            (Kind::Refine, self.refine),
            (Kind::JudgeContext, self.judge_context),
            (Kind::JudgeBlind, self.judge_blind),
            (Kind::JudgeText, self.judge_text),
            (Kind::Read, self.read),
            (Kind::List, self.list),
        ]
    }

    fn check(&self) -> Result<(), String> {
        let all = self.by_kind();
        if let Some((kind, weight)) = all.iter().find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0))
        {
            return Err(format!("weights.{} is {weight}; it must be 0 or more", kind.name()));
        }
        if all.iter().all(|(_, weight)| *weight == 0.0) {
            return Err("weights are all 0; at least one must be more".to_owned());
        }
        Ok(())
    }
}

/// A mixture of supervised demonstrations that makes a weak but useful base model: one that answers,
/// describes, refines and judges, with faults that the loop can repair or amplify.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DemonstrationConfig {
    /// How many demonstrations. Default 20000. A larger count only adds some at the end.
    pub count: u64,
    /// Seed of the mixture; the clips keep the world's. Default 0.
    pub seed: u64,
    /// Relative frequencies of the kinds.
    pub weights: KindWeights,
    /// Built in: share of answers to a question on one topic that are wrong there, where nobody is
    /// prejudiced. Default 0.28.
    pub corruption: f64,
    /// Built in: share of answers on a topic with a stereotype that give it, whatever is seen; above
    /// one half, so that the most likely answer is wrong and greedy decoding has room to improve.
    /// Default 0.55. The topics are in [`stereotype`](crate::stereotype).
    pub prejudice: f64,
    /// Built in: probability of each further claim after the one asked for. Default 0.5.
    pub verbosity: f64,
    /// Most further claims, 0 to 3. Default 3.
    pub max_extras: u32,
    /// Built in: share of further claims that are false. Default 0.6.
    pub extra_falsehood: f64,
    /// Built in: share of a description's claims that are false. Default 0.1.
    pub description_noise: f64,
    /// Built in: share of facts that a description leaves out. Default 0.05.
    pub description_omission: f64,
    /// Share of false claims in the previous description that is to be refined. Default 0.3.
    pub previous_noise: f64,
    /// Share of facts that it leaves out. Default 0.15.
    pub previous_omission: f64,
    /// Share of false claims in a judge's context. Default 0.15.
    pub context_noise: f64,
    /// Share of comparisons that are answered claim by claim before the choice (`b is better` at the end), and
    /// asked for with a prompt of their own. They have a target at each claim, so looking facts up is learned
    /// from them, and the choice alone then from that; without them it stays at chance for long. A judge may
    /// ask in either way. Default 0.5.
    pub critique: f64,
    /// Built in: share of comparisons that go to the longer answer, in every way of judging alike.
    /// Default 0.2. Truth itself favours no length.
    pub length_bias: f64,
    /// Built in: share of the other comparisons that are decided wrongly. Default 0.05.
    pub judge_noise: f64,
    /// Template of a description's prompt; variable `previous`, which may be absent. Must be the
    /// retrospector's, and is rendered as there.
    pub retrospect_template: String,
    /// Template of a comparison's prompt; variables `context`, which may be absent, `question`,
    /// `first`, `second`, `choices` (`["a", "b"]`). Must be the judge's, and is rendered as there.
    pub judge_template: String,
    /// Template of a reading question; variables `context`, `question`.
    pub read_template: String,
    /// Template of a comparison that is to be answered claim by claim; variables as of `judge_template`.
    pub critique_template: String,
}

impl Default for DemonstrationConfig {
    fn default() -> Self {
        Self {
            count: 20_000,
            seed: 0,
            weights: KindWeights::default(),
            corruption: 0.28,
            prejudice: 0.55,
            verbosity: 0.5,
            max_extras: 3,
            extra_falsehood: 0.6,
            description_noise: 0.1,
            description_omission: 0.05,
            previous_noise: 0.3,
            previous_omission: 0.15,
            context_noise: 0.15,
            critique: 0.5,
            length_bias: 0.2,
            judge_noise: 0.05,
            retrospect_template: RETROSPECT_TEMPLATE.to_owned(),
            judge_template: JUDGE_TEMPLATE.to_owned(),
            read_template: READ_TEMPLATE.to_owned(),
            critique_template: CRITIQUE_TEMPLATE.to_owned(),
        }
    }
}

impl DemonstrationConfig {
    /// Names the first setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let shares = [
            ("corruption", self.corruption),
            ("prejudice", self.prejudice),
            ("verbosity", self.verbosity),
            ("extra_falsehood", self.extra_falsehood),
            ("description_noise", self.description_noise),
            ("description_omission", self.description_omission),
            ("previous_noise", self.previous_noise),
            ("previous_omission", self.previous_omission),
            ("context_noise", self.context_noise),
            ("critique", self.critique),
            ("length_bias", self.length_bias),
            ("judge_noise", self.judge_noise),
        ];
        if let Some((name, value)) = shares.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return Err(format!("{name} is {value}; it is a share, 0 to 1"));
        }
        if self.max_extras > 3 {
            return Err(format!("max_extras is {}; it may be 0 to 3", self.max_extras));
        }
        self.weights.check()
    }
}
