//! `[loop]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::response::Sampling;

/// What happens in each iteration, training apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoopConfig {
    /// Iterations to run. Default 9, as in the paper.
    pub iterations: u32,
    /// Answers sampled to each instruction, at least 2; every two of them make a pair to judge.
    /// Default 2, as in the paper.
    pub responses: usize,
    /// Training samples per iteration, drawn anew each iteration. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// How answers are sampled. The paper does not publish its settings; the defaults (temperature 1,
    /// at most 256 tokens) are ours.
    pub sampling: Sampling,
    /// Samples under way at once. Results do not depend on it. Default 32.
    pub in_flight: usize,
    /// Share of an iteration's samples, in [0, 1], that may be quarantined before the run stops.
    /// Default 0.1.
    pub quarantine_limit: f64,
    /// Memory for decoded frames and visual features, in MiB. Default 1024.
    pub feature_cache_mb: usize,
}

impl Default for LoopConfig {
    fn default() -> Self {
        Self {
            iterations: 9,
            responses: 2,
            samples: None,
            sampling: Sampling::default(),
            in_flight: 32,
            quarantine_limit: 0.1,
            feature_cache_mb: 1024,
        }
    }
}
