//! The judge `cascade`: a cheap judge first, an expensive one for cases on which the cheap one is unsure.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
use isr_config::registry::JudgeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reseeded;
use crate::bounds;

/// Calls judges in order and takes the first verdict that is consistent and has a sufficient margin, else the
/// last judge's verdict. A judge that refuses the case as bad input passes it on; the last judge's error is
/// the cascade's.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CascadeConfig {
    /// Judges, cheapest first, at least two: tables of `type` and settings. Required.
    pub judges: Vec<Box<dyn JudgeConfig>>,
    /// Margin (distance of the probability from one half) below which the next judge is called, in [0, 0.5].
    /// Default 0.2.
    #[serde(default = "fifth")]
    pub min_margin: f64,
}

fn fifth() -> f64 {
    0.2
}

impl Component for CascadeConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        bounds::margin("min_margin", self.min_margin)?;
        if self.judges.len() < 2 {
            return Err(format!("judges has {}; a cascade needs at least two", self.judges.len()));
        }
        let mut each = self.judges.iter().enumerate();
        each.try_for_each(|(index, judge)| bounds::judge(&format!("judges[{index}]"), judge.as_ref()))
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let judges = self.judges.iter().map(|judge| judge.build(cx)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Cascade { judges, min_margin: self.min_margin }))
    }
}

isr_config::register!(Judge "cascade" => CascadeConfig, example = "\
min_margin = 0.2
judges = [{ type = \"pointwise\" }, { type = \"verdict\" }]
");

struct Cascade {
    judges: Vec<Arc<dyn Judge>>,
    min_margin: f64,
}

impl Cascade {
    fn settles(&self, outcome: &Result<Verdict, ComponentError>) -> bool {
        match outcome {
            Ok(verdict) => verdict.consistent && verdict.margin() >= self.min_margin,
            Err(error) => !matches!(error, ComponentError::BadInput(_)),
        }
    }
}

#[async_trait]
impl Judge for Cascade {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let mut outcome = Err(ComponentError::failed("the cascade has no judges"));
        for (index, judge) in self.judges.iter().enumerate() {
            outcome = judge.judge(&reseeded(case, "cascade", index), policy).await;
            if self.settles(&outcome) {
                break;
            }
        }
        outcome
    }
}
