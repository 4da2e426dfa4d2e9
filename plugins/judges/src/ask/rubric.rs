//! The judge `rubric`: independent scores of both answers by several criteria.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{try_join, try_join_all};
use isr_api::{BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asker::Asker;
use super::criterion::Criterion;
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
Rate an answer to a question about the video by one criterion only.

Question: {{ question }}

Answer: {{ answer }}

Criterion: {{ criterion }}. {{ description }}

Reply with a number from {{ least }} (not at all) to {{ most }} (fully) and nothing else.
";

const VARIABLES: Variables = Variables {
    required: &["question", "answer", "criterion"],
    optional: &["description", "context", "least", "most"],
};

/// Pointwise scoring by several criteria: the policy scores each answer alone, and `p_first = S(slope
/// (mean_first - mean_second))` of the weighted means over criteria, `S` the sigmoid. Costs one reply per
/// answer and criterion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RubricConfig {
    /// Criteria, at least one: `{ name = "accuracy", description = "...", weight = 2.0 }`. Default: accuracy
    /// (weight 2), relevance and completeness.
    pub criteria: Vec<Criterion>,
    /// Prompt after the video: a Jinja template over `question`, `answer`, `criterion`, `description`,
    /// `context` (the video's description; none without a retrospector), `least` and `most`. Default: English
    /// instructions for a general video model.
    pub prompt: String,
    /// System prompt. Default none.
    pub system: Option<String>,
    /// Lowest and highest score; a score outside is a reply that cannot be parsed. Default `[1, 5]`.
    pub scale: [f64; 2],
    /// Regular expression for the score in a reply: its first group, or the whole match. Default: a number.
    pub pattern: String,
    /// Match that counts: `first` or `last`. Default `first`.
    pub take: Take,
    /// Log-odds per point of difference between the weighted means, more than 0. Default 1.
    pub slope: f64,
    /// Whether the prompt shows the description of the video. Default true.
    pub use_context: bool,
    /// Whether the prompt shows the video; false judges by the description alone. Default true.
    pub video: bool,
    /// Sampling of replies and retries. Default: greedy, at most 32 tokens, 3 attempts.
    pub reply: ReplyConfig,
}

impl Default for RubricConfig {
    fn default() -> Self {
        let criteria = [
            ("accuracy", "Does the video show what the answer says?", 2.0),
            ("relevance", "Does the answer speak to the question?", 1.0),
            ("completeness", "Is what the question asks for answered in full?", 1.0),
        ];
        let criterion = |(name, description, weight)| Criterion::named(name, description, weight);
        Self {
            criteria: criteria.into_iter().map(criterion).collect(),
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

impl RubricConfig {
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

    fn validate_criteria(&self) -> Result<(), String> {
        bounds::at_least_one("the number of criteria", self.criteria.len())?;
        for (index, criterion) in self.criteria.iter().enumerate() {
            if criterion.name.trim().is_empty() {
                return Err(format!(
                    "criteria[{index}].name is empty; the policy must be told what to rate"
                ));
            }
            if self.criteria[..index].iter().any(|other| other.name == criterion.name) {
                return Err(format!("criteria[{index}].name is `{}` a second time", criterion.name));
            }
            bounds::positive(&format!("criteria[{index}].weight"), criterion.weight)?;
        }
        Ok(())
    }
}

impl Component for RubricConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        self.validate_criteria()?;
        bounds::positive("slope", self.slope)?;
        self.scorer().map(drop).map_err(|error| error.to_string())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        let (criteria, slope) = (self.criteria.clone(), self.slope);
        Ok(Arc::new(Rubric { scorer: self.scorer()?, criteria, slope }))
    }
}

isr_config::register!(Judge "rubric" => RubricConfig, example = "\
slope = 1.0
criteria = [
    { name = \"accuracy\", description = \"Does the video show what the answer says?\", weight = 2.0 },
    { name = \"relevance\", description = \"Does the answer speak to the question?\" },
]
");

struct Rubric {
    scorer: Scorer,
    criteria: Vec<Criterion>,
    slope: f64,
}

impl Rubric {
    /// Weighted mean of an answer's scores.
    async fn mean(
        &self,
        case: &JudgeCase,
        policy: &FrozenPolicy,
        answer: &str,
    ) -> Result<f64, ComponentError> {
        let scores = self.criteria.iter().map(|by| self.scorer.score(case, policy, answer, Some(by)));
        let scores = try_join_all(scores).await?;
        let weights = || self.criteria.iter().map(|criterion| criterion.weight);
        let sum: f64 = weights().zip(scores).map(|(weight, score)| weight * score).sum();
        Ok(sum / weights().sum::<f64>())
    }
}

#[async_trait]
impl Judge for Rubric {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let mean = |answer| self.mean(case, policy, answer);
        let (first, second) = try_join(mean(&case.first.text), mean(&case.second.text)).await?;
        Ok(Verdict::of(sigmoid(self.slope * (first - second))))
    }
}
