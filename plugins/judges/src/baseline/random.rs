//! The judge `random`: the control against which other judges are measured.
//!
//! The draw is assigned to the texts, not to their positions, so swapped answers get the mirrored verdict.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Streams, Verdict,
};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Distribution of a random judge's probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// 0 or 1, with equal chance. Selections drop none for lack of a margin.
    Coin,
    /// Uniform in [0, 1]. Margins differ, so `top_k` keeps a random subset.
    Uniform,
}

/// Random control: draws the verdict from the case's seed, independent of video, question and answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomJudgeConfig {
    /// Distribution: `coin` (0 or 1) or `uniform` (any probability). Default `coin`.
    pub distribution: Distribution,
}

impl Default for RandomJudgeConfig {
    fn default() -> Self {
        Self { distribution: Distribution::Coin }
    }
}

impl Component for RandomJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(RandomJudge { distribution: self.distribution }))
    }
}

isr_config::register!(Judge "random" => RandomJudgeConfig, example = "distribution = \"coin\"\n");

struct RandomJudge {
    distribution: Distribution,
}

#[async_trait]
impl Judge for RandomJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let mut rng = Streams::new(case.seed).rng(0, "random", "");
        let p = match self.distribution {
            Distribution::Coin => f64::from(u8::from(rng.random::<bool>())),
            Distribution::Uniform => rng.random::<f64>(),
        };
        let p_first = match case.first.text.cmp(&case.second.text) {
            std::cmp::Ordering::Less => p,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 1.0 - p,
        };
        Ok(Verdict::of(p_first))
    }
}
