//! The judge `veto`: hard rules before another judge.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use isr_config::registry::JudgeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::undecided;
use crate::baseline::{Rule, Rules};
use crate::bounds;

/// Disqualifies answers by rules as of the judge `rule`: a disqualified answer loses with certainty. If
/// neither is disqualified, another judge decides; if both are, the verdict is one half and inconsistent, so
/// that two bad answers make no pair. The other judge is called only where it decides.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VetoConfig {
    /// Judge of answers that are not disqualified: a table of `type` and settings. Required.
    pub inner: Box<dyn JudgeConfig>,
    /// Rules, as of the judge `rule`; a fault is a rule with negative points. Required.
    pub rules: Vec<Rule>,
    /// Minimum points; an answer with fewer is disqualified. Default 0.
    #[serde(default)]
    pub min_points: f64,
}

impl Component for VetoConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        bounds::finite("min_points", self.min_points)?;
        Rules::new(&self.rules).map_err(|error| error.to_string())?;
        bounds::judge("inner", self.inner.as_ref())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let (rules, min_points) = (Rules::new(&self.rules)?, self.min_points);
        Ok(Arc::new(Veto { inner: self.inner.build(cx)?, rules, min_points }))
    }
}

isr_config::register!(Judge "veto" => VetoConfig, example = "\
inner = { type = \"verdict\" }
rules = [{ regex = '(?i)^as an ai', points = -1.0 }, { max_words = 1, points = -1.0 }]
min_points = 0.0
");

struct Veto {
    inner: Arc<dyn Judge>,
    rules: Rules,
    min_points: f64,
}

#[async_trait]
impl Judge for Veto {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let disqualified = |answer: &str| self.rules.points(answer) < self.min_points;
        match (disqualified(&case.first.text), disqualified(&case.second.text)) {
            (false, false) => self.inner.judge(case, policy).await,
            (true, true) => Ok(undecided(Vec::new())),
            (first, _) => Ok(Verdict::of(if first { 0.0 } else { 1.0 })),
        }
    }
}
