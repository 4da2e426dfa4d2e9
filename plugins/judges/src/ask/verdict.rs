//! The judge `verdict`: the policy says which answer is better, and its words are read.

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
use crate::agreement::averaged;
use crate::comparison_prompt::presented;
use crate::error::JudgeError;

/// The policy writes which of two answers is better; the choice is read from its reply, and gives a
/// probability of 0 or 1 for each order of showing. A case whose replies cannot be read is quarantined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerdictConfig {
    /// What the policy is asked, after the video: a Jinja template over `question`, `first` and `second`
    /// (the answers as they are shown), `context` (the description; none without a retrospector) and
    /// `choices`. Default: English instructions for a general video model.
    pub prompt: String,
    /// Standing instructions. Default none.
    pub system: Option<String>,
    /// The replies that stand for the answer shown first and the answer shown second, in any case. Default
    /// `["A", "B"]`.
    pub choices: [String; 2],
    /// Regular expression that finds the choice in a reply: its first group, or all of it. Default none: the
    /// reply begins with the choice, or with `the better answer is` and the choice.
    pub pattern: Option<String>,
    /// Which match counts: `first` or `last`. Default `first`.
    pub take: Take,
    /// Which orders of showing are asked: `both` or `given`. Default `both`.
    pub orders: Orders,
    /// Whether the description is shown. Default true.
    pub use_context: bool,
    /// Whether the video is shown; false judges by the description alone. Default true.
    pub video: bool,
    /// How replies are drawn, and drawn again. Default: greedy, at most 32 tokens, 3 attempts.
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
    /// Asks in one order of showing.
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
        // Both at once, so that an engine can batch them on one prefix.
        let votes = orders.iter().map(|&first_shown_first| self.vote(case, policy, first_shown_first));
        Ok(averaged(try_join_all(votes).await?))
    }
}
