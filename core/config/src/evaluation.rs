//! [`EvaluationConfig`], the section `[evaluation]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{Checks, Invalid};

/// Evaluation on held-out samples after each iteration. Has no effect without an `[evaluator]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// Number of held-out samples, taken from the front of the split. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Number of held-out samples for the iterations before the last, taken from the front. The initial policy
    /// and the last iteration use `samples`. Default: the value of `samples`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_samples: Option<usize>,
    /// Maximum response length in tokens. Default 256.
    pub max_new_tokens: usize,
    /// Whether the initial policy is evaluated too, as iteration 0. Default true.
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
