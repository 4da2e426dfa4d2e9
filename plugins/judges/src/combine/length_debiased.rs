//! The judge `length_debiased`: subtracts a known length bias from a judge.
//!
//! An audit of verdicts fits `logit p = a + slope (words_first - words_second)`. The second term is the effect
//! of length alone, and is subtracted from each verdict. AlpacaEval 2's length control (arXiv 2404.04475)
//! subtracts the same term from a fitted win rate.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use isr_config::registry::JudgeConfig;
use isr_run::words::excess_words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::odds::without_effect;

/// Length-debiased judge: subtracts a length effect from a judge's log-odds, `logit p - slope (words_first -
/// words_second)`. `isr audit` fits the slope to the verdicts of a run.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthDebiasedConfig {
    /// Corrected judge: a table of `type` and settings. Required.
    pub inner: Box<dyn JudgeConfig>,
    /// Length bias of the judge in log-odds per additional word; negative for a judge that prefers short
    /// answers. Required.
    pub slope: f64,
    /// Clamp of the judge's probabilities to [clip, 1 - clip] before the logit, in (0, 0.5). A larger value
    /// lets fewer words reverse a verdict of 0 or 1. Default 0.01.
    #[serde(default = "hundredth")]
    pub clip: f64,
}

fn hundredth() -> f64 {
    0.01
}

impl Component for LengthDebiasedConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        bounds::finite("slope", self.slope)?;
        bounds::clip(self.clip)?;
        bounds::judge("inner", self.inner.as_ref())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let (slope, clip) = (self.slope, self.clip);
        Ok(Arc::new(LengthDebiased { inner: self.inner.build(cx)?, slope, clip }))
    }
}

isr_config::register!(
    Judge "length_debiased" => LengthDebiasedConfig,
    example = "inner = { type = \"verdict\" }\nslope = 0.02\nclip = 0.01\n"
);

struct LengthDebiased {
    inner: Arc<dyn Judge>,
    slope: f64,
    clip: f64,
}

#[async_trait]
impl Judge for LengthDebiased {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let verdict = self.inner.judge(case, policy).await?;
        let effect = self.slope * excess_words(&case.first.text, &case.second.text);
        Ok(without_effect(&verdict, effect, self.clip))
    }
}
