//! The judge `verdict`: the policy writes which answer is better.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Orders, Verdict, Vote,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asker::{Asker, Question};
use super::comparison::{Comparison, ComparisonParts, DEFAULT_PROMPT};
use super::pattern::Take;
use super::reply::ReplyConfig;
use crate::comparison_prompt::presented;
use crate::error::JudgeError;

/// Generative pairwise judge: the policy writes which of two answers is better, which gives a probability of 0
/// or 1 per presentation order. A sample whose replies cannot be parsed is quarantined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerdictConfig {
    /// Prompt after the video: a Jinja template over `question`, `first` and `second` (the answers in
    /// presentation order), `context` (the description; none without a retrospector) and `choices`. Default:
    /// English instructions for a general video model.
    pub prompt: String,
    /// System prompt. Default none.
    pub system: Option<String>,
    /// Replies for the answer shown first and the answer shown second, matched in any case. Default `["A",
    /// "B"]`.
    pub choices: [String; 2],
    /// Regular expression for the choice in a reply: its first group, or the whole match. Default none: the
    /// reply begins with the choice, or with `the better answer is` and the choice.
    pub pattern: Option<String>,
    /// Match that counts: `first` or `last`. Default `first`.
    pub take: Take,
    /// Presentation orders: `both`, or `given` for the sampled order only. Default `both`.
    pub orders: Orders,
    /// Whether the prompt shows the description. Default true.
    pub use_context: bool,
    /// Whether the prompt shows the video; false judges by the description alone. Default true.
    pub video: bool,
    /// Sampling of replies and retries. Default: greedy, at most 32 tokens, 3 attempts.
    pub reply: ReplyConfig,
}

impl Default for VerdictConfig {
    fn default() -> Self {
        Self {
            prompt: DEFAULT_PROMPT.to_owned(),
            system: None,
            choices: ["A".to_owned(), "B".to_owned()],
            pattern: None,
            take: Take::First,
            orders: Orders::Both,
            use_context: true,
            video: true,
            reply: ReplyConfig::default(),
        }
    }
}

impl VerdictConfig {
    fn comparison(&self) -> Result<Comparison, JudgeError> {
        Comparison::new(ComparisonParts {
            prompt: &self.prompt,
            choices: &self.choices,
            pattern: self.pattern.as_deref(),
            take: self.take,
            use_context: self.use_context,
        })
    }
}

impl Component for VerdictConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        self.reply.validate()?;
        self.comparison().map(drop).map_err(|error| error.to_string())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        let asker = Asker { system: self.system.clone(), video: self.video, reply: self.reply.clone() };
        Ok(Arc::new(VerdictJudge { asker, comparison: self.comparison()?, orders: self.orders }))
    }
}

isr_config::register!(Judge "verdict" => VerdictConfig, example = "\
orders = \"both\"
reply = { sampling = { max_new_tokens = 16 }, attempts = 3 }
");

struct VerdictJudge {
    asker: Asker,
    comparison: Comparison,
    orders: Orders,
}

impl VerdictJudge {
    /// Asks in one presentation order.
    async fn vote(
        &self,
        case: &JudgeCase,
        policy: &FrozenPolicy,
        first_shown_first: bool,
    ) -> Result<Vote, ComponentError> {
        let text = self.comparison.text(case, first_shown_first).map_err(ComponentError::bad_input)?;
        let subject = presented(case, first_shown_first)[0];
        let question = Question { text, stage: "verdict", subject, wanted: self.comparison.wanted() };
        let read = |reply: &str| self.comparison.vote(reply, first_shown_first);
        self.asker.ask(case, policy, question, read).await
    }
}

#[async_trait]
impl Judge for VerdictJudge {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let orders = self.orders.first_shown_first();
        // Concurrently, so that an engine can batch both on one prefix.
        let votes = orders.iter().map(|&first_shown_first| self.vote(case, policy, first_shown_first));
        Ok(Verdict::from_votes(try_join_all(votes).await?))
    }
}
