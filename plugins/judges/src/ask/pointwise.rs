//! The judge `pointwise`: independent scores of both answers.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join;
use isr_api::{BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asker::Asker;
use super::pattern::Take;
use super::reply::ReplyConfig;
use super::scorer::{NUMBER, Scorer, ScorerParts};
use crate::bounds;
use crate::error::JudgeError;
use crate::odds::sigmoid;
use crate::template::Variables;

const DEFAULT_PROMPT: &str = "\
{% if context %}
A description of the video, for reference:
{{ context }}

{% endif %}
Rate an answer to a question about the video.

Question: {{ question }}

Answer: {{ answer }}

How accurate and helpful is the answer, judged by what the video shows? Length is no merit. Reply with a \
number from {{ least }} (wrong) to {{ most }} (right and complete) and nothing else.
";

const VARIABLES: Variables =
    Variables { required: &["question", "answer"], optional: &["context", "least", "most"] };

/// Pointwise scoring: the policy scores each answer alone, and `p_first = S(slope (score_first -
/// score_second))`, `S` the sigmoid. There is no presentation order, so no position bias. Equal scores give
/// one half, which selections drop as `no preference`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PointwiseConfig {
    /// Prompt after the video: a Jinja template over `question`, `answer`, `context` (the description; none
    /// without a retrospector), and the ends of the scale, `least` and `most`. Default: English instructions
    /// for a general video model.
    pub prompt: String,
    /// System prompt. Default none.
    pub system: Option<String>,
    /// Lowest and highest score; a score outside is a reply that cannot be parsed. Default `[1, 5]`.
    pub scale: [f64; 2],
    /// Regular expression for the score in a reply: its first group, or the whole match. Default: a number.
    pub pattern: String,
    /// Match that counts: `first` or `last`. Default `first`.
    pub take: Take,
    /// Log-odds per point of score difference, more than 0. Default 1.
    pub slope: f64,
    /// Whether the prompt shows the description. Default true.
    pub use_context: bool,
    /// Whether the prompt shows the video; false judges by the description alone. Default true.
    pub video: bool,
    /// Sampling of replies and retries. Default: greedy, at most 32 tokens, 3 attempts.
    pub reply: ReplyConfig,
}

impl Default for PointwiseConfig {
    fn default() -> Self {
        Self {
            prompt: DEFAULT_PROMPT.to_owned(),
            system: None,
            scale: [1.0, 5.0],
            pattern: NUMBER.to_owned(),
            take: Take::First,
            slope: 1.0,
            use_context: true,
            video: true,
            reply: ReplyConfig::default(),
        }
    }
}

impl PointwiseConfig {
    fn scorer(&self) -> Result<Scorer, JudgeError> {
        let asker = Asker { system: self.system.clone(), video: self.video, reply: self.reply.clone() };
        let parts = ScorerParts {
            prompt: &self.prompt,
            variables: &VARIABLES,
            scale: self.scale,
            pattern: &self.pattern,
            take: self.take,
            use_context: self.use_context,
        };
        Scorer::new(asker, parts)
    }
}

impl Component for PointwiseConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        bounds::positive("slope", self.slope)?;
        self.scorer().map(drop).map_err(|error| error.to_string())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Pointwise { scorer: self.scorer()?, slope: self.slope }))
    }
}

isr_config::register!(
    Judge "pointwise" => PointwiseConfig,
    example = "scale = [0.0, 10.0]\nslope = 0.5\n"
);

struct Pointwise {
    scorer: Scorer,
    slope: f64,
}

#[async_trait]
impl Judge for Pointwise {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let score = |answer| self.scorer.score(case, policy, answer, None);
        let (first, second) = try_join(score(&case.first.text), score(&case.second.text)).await?;
        Ok(Verdict::of(sigmoid(self.slope * (first - second))))
    }
}
