//! The judge `rule`: points by hand-written rules.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{Rule, Rules};
use crate::bounds;
use crate::odds::sigmoid;

/// Rule-based judge: rules (regular expressions, keywords, length ranges) give each answer points, and
/// `p_first = S(slope (points_first - points_second))`, `S` the sigmoid. Equal points give one half, which
/// selections drop as `no preference`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleJudgeConfig {
    /// Rules, at least one; an answer's points are the sum over the rules that it meets. Required.
    pub rules: Vec<Rule>,
    /// Log-odds per point of difference, more than 0. Default 1.
    #[serde(default = "one")]
    pub slope: f64,
}

fn one() -> f64 {
    1.0
}

impl Component for RuleJudgeConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        bounds::positive("slope", self.slope)?;
        Rules::new(&self.rules).map(drop).map_err(|error| error.to_string())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(RuleJudge { rules: Rules::new(&self.rules)?, slope: self.slope }))
    }
}

isr_config::register!(Judge "rule" => RuleJudgeConfig, example = "\
slope = 1.0
rules = [
    { regex = '(?i)^as an ai', points = -2.0 },
    { keywords = [\"in the video\", \"on screen\"], points = 0.5 },
    { min_words = 5, max_words = 80, points = 1.0 },
]
");

struct RuleJudge {
    rules: Rules,
    slope: f64,
}

#[async_trait]
impl Judge for RuleJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let [first, second] = [&case.first, &case.second].map(|answer| self.rules.points(&answer.text));
        Ok(Verdict::of(sigmoid(self.slope * (first - second))))
    }
}
