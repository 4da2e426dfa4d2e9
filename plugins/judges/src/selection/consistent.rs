//! The selection `consistent`: pairs with consistent and confident verdicts.
//!
//! Self-judges have a position bias. A verdict that flips with the presentation order reflects this bias more
//! than the answers. The paper does not say whether it filters; the rule is this project's.

use std::sync::Arc;

use isr_api::{BuildContext, Candidate, Cause, Component, Decision, Selection, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::by_preference;
use crate::bounds;

/// Tolerance for rounding of margins: `0.6 - 0.5` is slightly less than `0.1`.
const ROUNDING: f64 = 1e-9;

/// Keeps pairs whose verdict is independent of the presentation order and has a sufficient margin. Drops the
/// others as `inconsistent verdict`, `no preference` (a tie) or `margin below
/// X`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsistentSelectionConfig {
    /// Whether pairs on which the judge's votes disagree are dropped. Default true.
    pub require_consistent: bool,
    /// Minimum margin: distance of the preference probability (mean over votes) from one half, in [0, 0.5].
    /// Default 0.
    pub min_margin: f64,
}

impl Default for ConsistentSelectionConfig {
    fn default() -> Self {
        Self { require_consistent: true, min_margin: 0.0 }
    }
}

impl Component for ConsistentSelectionConfig {
    type Built = Arc<dyn Selection>;

    fn validate(&self) -> Result<(), String> {
        bounds::margin("min_margin", self.min_margin)
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(ConsistentSelection { config: self.clone() }))
    }
}

isr_config::register!(
    Selection "consistent" => ConsistentSelectionConfig,
    example = "require_consistent = true\nmin_margin = 0.1\n"
);

/// Selection built by [`ConsistentSelectionConfig`].
#[derive(Debug, Clone)]
pub struct ConsistentSelection {
    config: ConsistentSelectionConfig,
}

impl ConsistentSelection {
    fn decide(&self, verdict: &Verdict) -> Decision {
        let ConsistentSelectionConfig { require_consistent, min_margin } = self.config;
        if require_consistent && !verdict.consistent {
            return Decision::Drop("inconsistent verdict".to_owned());
        }
        match by_preference(verdict) {
            Decision::Drop(reason) => Decision::Drop(reason),
            _ if verdict.margin() + ROUNDING < min_margin => {
                Decision::Drop(format!("margin below {min_margin}"))
            }
            decision => decision,
        }
    }
}

impl Selection for ConsistentSelection {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        candidates.iter().map(|candidate| self.decide(&candidate.verdict)).collect()
    }
}
