//! The judge `length`: pure length bias, as a baseline.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use isr_run::words::excess_words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::odds::sigmoid;

/// Preference of a length judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preferred {
    /// The answer with fewer words.
    Shorter,
    /// The answer with more words.
    Longer,
}

/// Length baseline: prefers the shorter or the longer answer, in words (`docs/judges.md` says how they are counted). Answers of
/// equal length get a probability of exactly one half, which selections drop as `no preference`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LengthJudgeConfig {
    /// Preferred answer: `shorter` or `longer`. Default `shorter`.
    pub prefer: Preferred,
    /// Log-odds per word of difference, more than 0. Default none: probabilities of 0 and 1.
    pub slope: Option<f64>,
}

impl Default for LengthJudgeConfig {
    fn default() -> Self {
        Self { prefer: Preferred::Shorter, slope: None }
    }
}

impl Component for LengthJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        self.slope.map_or(Ok(()), |slope| bounds::positive("slope", slope))
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(LengthJudge { config: self.clone() }))
    }
}

isr_config::register!(
    Judge "length" => LengthJudgeConfig,
    example = "prefer = \"shorter\"\nslope = 0.1\n"
);

struct LengthJudge {
    config: LengthJudgeConfig,
}

#[async_trait]
impl Judge for LengthJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let longer = excess_words(&case.first.text, &case.second.text);
        let advantage = match self.config.prefer {
            Preferred::Shorter => -longer,
            Preferred::Longer => longer,
        };
        Ok(Verdict::of(match self.config.slope {
            Some(slope) => sigmoid(slope * advantage),
            None if advantage == 0.0 => 0.5,
            None => f64::from(u8::from(advantage > 0.0)),
        }))
    }
}
