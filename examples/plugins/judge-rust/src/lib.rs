//! A judge in a native library: prefers the answer whose length is nearer to what was asked for.

use std::sync::Arc;

use isr_plugin::{
    BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict, async_trait,
    tracing,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Prefers the answer of about so many words. Both empty is no basis for a verdict, and is refused.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TerseConfig {
    /// Words of the best answer, at least 1. Default 12.
    pub words: usize,
    /// Log-odds per word that an answer is farther from that, more than 0. Default 0.2.
    pub slope: f64,
}

impl Default for TerseConfig {
    fn default() -> Self {
        Self { words: 12, slope: 0.2 }
    }
}

impl Component for TerseConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        if self.words == 0 {
            return Err("words is 0; it must be at least 1".to_owned());
        }
        if !(self.slope > 0.0 && self.slope.is_finite()) {
            return Err(format!("slope is {}; it must be more than 0", self.slope));
        }
        Ok(())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Terse { config: self.clone() }))
    }
}

struct Terse {
    config: TerseConfig,
}

impl Terse {
    /// How many words an answer is away from the best length.
    fn distance(&self, answer: &str) -> f64 {
        answer.split_whitespace().count().abs_diff(self.config.words) as f64
    }
}

#[async_trait]
impl Judge for Terse {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let (first, second) = (case.first.text.trim(), case.second.text.trim());
        if first.is_empty() && second.is_empty() {
            return Err(ComponentError::bad_input("both answers are empty"));
        }
        let advantage = self.config.slope * (self.distance(second) - self.distance(first));
        let p_first = 1.0 / (1.0 + (-advantage).exp());
        tracing::debug!(p_first, video = %case.scene.video.display(), "judged");
        Ok(Verdict { p_first, votes: Vec::new(), consistent: true })
    }
}

isr_plugin::export! {
    Judge "terse" => TerseConfig, example = "words = 12\nslope = 0.2\n";
}
