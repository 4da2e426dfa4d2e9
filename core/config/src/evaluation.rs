//! `[evaluation]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{Checks, Invalid};

/// What is measured after each iteration. Used where the config has an `[evaluator]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Held-out samples to answer: the first so many. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Held-out samples to answer after iterations before the last, where fewer do for a curve: the first so
    /// many. The starting model and the last iteration are measured on `samples`. Default as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_samples: Option<usize>,
    /// Longest answer in tokens; answers are decoded greedily. Default 256.
    pub max_new_tokens: usize,
    /// Whether the starting model is measured too, as iteration 0. Default true.
    pub base: bool,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { samples: None, intermediate_samples: None, max_new_tokens: 256, base: true }
    }
}

impl EvaluationConfig {
    pub(super) fn invalid(&self) -> Vec<Invalid> {
        let mut checks = Checks::of("evaluation");
        checks.require(self.samples != Some(0), "samples", 0, "at least 1");
        checks.require(self.intermediate_samples != Some(0), "intermediate_samples", 0, "at least 1");
        checks.require(self.max_new_tokens > 0, "max_new_tokens", self.max_new_tokens, "at least 1");
        checks.done()
    }
}
