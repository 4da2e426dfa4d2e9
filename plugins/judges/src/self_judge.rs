//! The judge `self`: `p(y1 > y2 | V, x, c_t)` (arXiv 2406.11280).
//!
//! The prompt shows the video, the visual context, the question and both answers, and asks for one of two
//! choices. The verdict is not sampled: the policy scores both choices as prefixes of its reply, and the
//! probability is the softmax over the two log-probs. This needs no decoding, cannot fail to parse, and
//! gives a margin. Both presentation orders are scored, at the cost of one prefill of the video, which comes
//! first. Position bias cancels in the mean and shows as inconsistency.
//!
//! If both choices together have less than `min_choice_mass` of probability, their ratio is meaningless: the
//! case is refused as bad input, and the loop quarantines the sample.

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

/// Retrospective self-judge (ISR-DPO, arXiv 2406.11280): the policy judges its own answers given the video and
/// its description of it. The paper publishes neither the prompt nor how a verdict is read; the defaults are
/// this project's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfJudgeConfig {
    /// Prompt after the video: a Jinja template over `question`, `first` and `second` (the answers in
    /// presentation order), `context` (the description; none without a retrospector) and `choices`. Default:
    /// English instructions for a general video model.
    pub prompt: String,
    /// System prompt. Default none.
    pub system: Option<String>,
    /// Replies for the answer shown first and the answer shown second; neither may be a prefix of the other.
    /// Default `["A", "B"]`.
    pub choices: [String; 2],
    /// Presentation orders: `both`, or `given` for the sampled order only. Default `both`.
    pub orders: Orders,
    /// Whether the prompt shows the description; false is the self-rewarding ablation. Default true.
    pub use_context: bool,
    /// Whether the prompt shows the video; false judges by the description alone. Default true.
    pub video: bool,
    /// Minimum total probability of the two choices, in [0, 1); below it the sample is quarantined. 0 accepts
    /// everything. Default 0.01.
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

/// Judge built by [`SelfJudgeConfig`].
#[derive(Debug)]
pub struct SelfJudge {
    config: SelfJudgeConfig,
    comparison: ComparisonPrompt,
}

impl SelfJudge {
    /// Scores both choices in one presentation order.
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

    /// Softmax probability of the first choice.
    ///
    /// # Errors
    /// [`ComponentError::BadInput`] below `min_choice_mass`.
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

/// Log-probs of the two choices, summed over tokens; fails if the policy breaks its contract.
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
        // Concurrently, so that an engine can batch both on one prefix.
        let votes = orders.iter().map(|&first_shown_first| self.vote(case, policy, first_shown_first));
        Ok(Verdict::from_votes(try_join_all(votes).await?))
    }
}
