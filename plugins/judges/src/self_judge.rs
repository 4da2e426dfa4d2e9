//! The judge `self`: `p(y1 > y2 | V, x, c_t)` (arXiv 2406.11280).
//!
//! The prompt shows the video, the context, the question and both answers, and asks for one of two
//! choices. The verdict is not sampled: the policy scores both choices as openings of its reply, and the
//! probability is the softmax over the two log-probs. That costs no decoding, has no parse errors, and
//! gives a margin. Both orders of showing are asked (and cost one prefill of the video, as the video
//! comes first), so a position bias cancels in the mean and shows as inconsistency.
//!
//! A policy that wants to say something else altogether has given no verdict, whatever the ratio of two
//! tiny numbers says: below `min_choice_mass` the case is refused, and the loop quarantines the sample.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, Continuation, FrozenPolicy, Judge, JudgeCase, Orders,
    Prompt, ScoreRequest, TokenLogProbs, Verdict, Vote,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::comparison_prompt::{ChoiceRule, ComparisonPrompt};
use crate::error::JudgeError;
use crate::prompt;

const DEFAULT_PROMPT: &str = "\
{% if context %}
Here is a description of the video:
{{ context }}

{% endif %}
Here are a question about the video and two answers to it.

Question: {{ question }}

Answer {{ choices[0] }}: {{ first }}

Answer {{ choices[1] }}: {{ second }}

Which answer is more accurate and helpful, judged by what the video shows? A longer answer is not \
better for its length. Reply with {{ choices[0] }} or {{ choices[1] }} only.
";

/// The policy judges its own answers with its description of the video in view: the retrospective
/// self-judge (arXiv 2406.11280). The paper does not publish its prompt or how a verdict is read; the
/// defaults are ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfJudgeConfig {
    /// What the policy is asked, after the video: a Jinja template over `question`, `first` and `second`
    /// (the answers as they are shown), `context` (the description; none without a retrospector) and
    /// `choices`. Default: English instructions for a general video model.
    pub prompt: String,
    /// Standing instructions. Default none.
    pub system: Option<String>,
    /// The replies that stand for the answer shown first and the answer shown second. Default `["A",
    /// "B"]`.
    pub choices: [String; 2],
    /// Which orders of showing are asked. Default `both`.
    pub orders: Orders,
    /// Whether the description is shown; false is the self-rewarding ablation. Default true.
    pub use_context: bool,
    /// Whether the video is shown; false judges by the description alone. Default true.
    pub video: bool,
    /// Least probability that the two choices have together, in [0, 1); below it there is no verdict and
    /// the sample is quarantined. 0 accepts everything. Default 0.01: a model that would say something
    /// else 99 times in 100 has not understood what it was asked.
    pub min_choice_mass: f64,
}

impl Default for SelfJudgeConfig {
    fn default() -> Self {
        Self {
            prompt: DEFAULT_PROMPT.to_owned(),
            system: None,
            choices: ["A".to_owned(), "B".to_owned()],
            orders: Orders::Both,
            use_context: true,
            video: true,
            min_choice_mass: 0.01,
        }
    }
}

impl SelfJudgeConfig {
    fn comparison(&self) -> Result<ComparisonPrompt, JudgeError> {
        ComparisonPrompt::new(&self.prompt, &self.choices, ChoiceRule::Scored, self.use_context)
    }
}

impl Component for SelfJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.min_choice_mass) {
            return Err(format!("min_choice_mass is {}; it must be in [0, 1)", self.min_choice_mass));
        }
        self.comparison().map(drop).map_err(|error| error.to_string())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(SelfJudge { comparison: self.comparison()?, config: self.clone() }))
    }
}

isr_config::register!(
    Judge "self" => SelfJudgeConfig,
    example = "choices = [\"A\", \"B\"]\norders = \"both\"\nuse_context = true\n"
);

/// The judge that [`SelfJudgeConfig`] builds.
#[derive(Debug)]
pub struct SelfJudge {
    config: SelfJudgeConfig,
    comparison: ComparisonPrompt,
}

impl SelfJudge {
    /// Asks once, in one order of showing.
    async fn vote(
        &self,
        case: &JudgeCase,
        policy: &FrozenPolicy,
        first_shown_first: bool,
    ) -> Result<Vote, ComponentError> {
        let prompt = self.prompt(case, first_shown_first)?;
        let continuations = self.config.choices.iter().cloned().map(Continuation::Prefix).collect();
        let scores = policy.score(ScoreRequest { prompt, continuations }).await?;
        let p_shown_first = self.preference(&scores)?;
        let p_first = if first_shown_first { p_shown_first } else { 1.0 - p_shown_first };
        Ok(Vote { first_shown_first, p_first })
    }

    fn prompt(&self, case: &JudgeCase, first_shown_first: bool) -> Result<Prompt, ComponentError> {
        let text = self.comparison.text(case, first_shown_first).map_err(ComponentError::bad_input)?;
        let video = self.config.video.then_some(&case.scene);
        Ok(prompt::assemble(video, self.config.system.as_deref(), text))
    }

    /// The probability of the first choice among the two.
    fn preference(&self, scores: &[TokenLogProbs]) -> Result<f64, ComponentError> {
        let [first, second] = log_probs(scores)?;
        let mass = first.exp() + second.exp();
        let nothing = first == f64::NEG_INFINITY && second == f64::NEG_INFINITY;
        if mass < self.config.min_choice_mass || nothing {
            return Err(ComponentError::bad_input(self.no_verdict(mass)));
        }
        Ok(1.0 / (1.0 + (second - first).exp()))
    }

    fn no_verdict(&self, mass: f64) -> JudgeError {
        let [first, second] = self.config.choices.clone();
        JudgeError::NoVerdict { first, second, mass, limit: self.config.min_choice_mass }
    }
}

/// The log-probs of the two choices, as the policy's contract promises them.
fn log_probs(scores: &[TokenLogProbs]) -> Result<[f64; 2], ComponentError> {
    let sums: Vec<f64> = scores.iter().map(TokenLogProbs::sum).collect();
    let scored = scores.iter().all(|score| !score.logprobs.is_empty());
    match sums[..] {
        [first, second] if scored && !first.is_nan() && !second.is_nan() => Ok([first, second]),
        _ => Err(ComponentError::failed(JudgeError::Scores { got: sums })),
    }
}

#[async_trait]
impl Judge for SelfJudge {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let orders = self.config.orders.first_shown_first();
        // Both at once, so that an engine can batch them on one prefix.
        let votes = orders.iter().map(|&first_shown_first| self.vote(case, policy, first_shown_first));
        Ok(Verdict::from_votes(try_join_all(votes).await?))
    }
}
