//! The judge `abstain`: no verdict below a minimum margin.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use isr_config::registry::JudgeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::undecided;
use crate::bounds;

/// Passes on a judge's verdict if its margin is large enough; otherwise the verdict is one half and
/// inconsistent, so that no selection turns it into a pair.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AbstainConfig {
    /// Wrapped judge: a table of `type` and settings. Required.
    pub inner: Box<dyn JudgeConfig>,
    /// Minimum margin (distance of the probability from one half), in [0, 0.5]. Default 0.1.
    #[serde(default = "tenth")]
    pub min_margin: f64,
}

fn tenth() -> f64 {
    0.1
}

impl Component for AbstainConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        bounds::margin("min_margin", self.min_margin)?;
        bounds::judge("inner", self.inner.as_ref())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Abstain { inner: self.inner.build(cx)?, min_margin: self.min_margin }))
    }
}

isr_config::register!(
    Judge "abstain" => AbstainConfig,
    example = "inner = { type = \"pointwise\" }\nmin_margin = 0.2\n"
);

struct Abstain {
    inner: Arc<dyn Judge>,
    min_margin: f64,
}

#[async_trait]
impl Judge for Abstain {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let verdict = self.inner.judge(case, policy).await?;
        let sure = verdict.margin() >= self.min_margin;
        Ok(if sure { verdict } else { undecided(verdict.votes) })
    }
}
