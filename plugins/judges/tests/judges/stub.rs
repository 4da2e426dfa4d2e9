//! A judge whose verdict a test's config states.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Prompt, Sampling,
    Verdict, Vote,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Says what it is told to say, after telling the policy its name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StubConfig {
    /// What the policy hears. Default `stub`.
    name: String,
    /// The probability of the answer that stands first. Default 0.5.
    p: f64,
    /// The votes. Default none.
    votes: Vec<f64>,
    /// Whether it is consistent. Default true.
    consistent: bool,
    /// The error: `input`, `failed` or none. Default none.
    error: String,
}

impl Default for StubConfig {
    fn default() -> Self {
        let (name, error) = ("stub".to_owned(), String::new());
        Self { name, p: 0.5, votes: Vec::new(), consistent: true, error }
    }
}

impl Component for StubConfig {
    type Built = Arc<dyn Judge>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Stub(self.clone())))
    }
}

isr_config::register!(Judge "stub" => StubConfig, example = "");

struct Stub(StubConfig);

#[async_trait]
impl Judge for Stub {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let Self(config) = self;
        policy.answer(Prompt::text(config.name.clone()), Sampling::default(), case.seed).await?;
        let vote = |(index, &p_first): (usize, &f64)| Vote { first_shown_first: index == 0, p_first };
        let votes = config.votes.iter().enumerate().map(vote).collect();
        match config.error.as_str() {
            "input" => Err(ComponentError::bad_input(format!("{} cannot", config.name))),
            "failed" => Err(ComponentError::failed(format!("{} broke", config.name))),
            _ => Ok(Verdict { p_first: config.p, votes, consistent: config.consistent }),
        }
    }
}
