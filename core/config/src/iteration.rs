//! `[loop]`.

use std::path::PathBuf;

use isr_api::Sampling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::feature_cache;
use super::validate::{Checks, Invalid, keys};

/// What happens in each iteration, training apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoopConfig {
    /// Iterations to run. Default 9, as in the paper.
    pub iterations: u32,
    /// Answers sampled to each instruction, at least 2. Of more than 2, each is compared with each other
    /// one that differs, n (n - 1) / 2 cases for the judge in place of one, and the best and the worst make
    /// the pair. Default 2, as in the paper.
    pub responses: usize,
    /// Training samples per iteration, drawn anew each iteration. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// How answers are sampled. The paper does not publish its settings; the defaults (temperature 1,
    /// at most 256 tokens) are ours.
    pub sampling: Sampling,
    /// A control: each sample is judged with the description of another video, that of the next in a random
    /// round through all, drawn anew each iteration. What a judge gains by its own video's description, beside
    /// the gain by having any, is the difference. Descriptions themselves go on as without. Default false.
    pub mismatched_contexts: bool,
    /// Samples under way at once. Results do not depend on it. Default 32.
    pub concurrency: usize,
    /// Share of an iteration's samples, in [0, 1], that may be quarantined before the run stops.
    /// Default 0.1.
    pub quarantine_limit: f64,
    /// Memory for decoded frames and visual features, in MiB. Default 1024.
    pub feature_cache_mb: usize,
    /// Folder of visual features that iterations, stages and runs share, from which features come where
    /// the same video was encoded before; `auto` is one in the user's cache folder. Results do not depend
    /// on it. Default none: features are not kept on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_cache_dir: Option<PathBuf>,
    /// Most that this folder may hold, in GiB; the features that were not used for the longest are
    /// removed. Default 20.
    pub feature_cache_gb: f64,
}

impl Default for LoopConfig {
    fn default() -> Self {
        Self {
            iterations: 9,
            responses: 2,
            samples: None,
            sampling: Sampling::default(),
            mismatched_contexts: false,
            concurrency: 32,
            quarantine_limit: 0.1,
            feature_cache_mb: 1024,
            feature_cache_dir: None,
            feature_cache_gb: 20.0,
        }
    }
}

impl LoopConfig {
    pub(super) fn invalid(&self) -> Vec<Invalid> {
        let mut checks = Checks::of("loop");
        let at_least_one = "at least 1";
        checks.require(self.iterations > 0, "iterations", self.iterations, at_least_one);
        checks.require(self.responses > 1, "responses", self.responses, "at least 2");
        checks.require(self.samples != Some(0), "samples", 0, at_least_one);
        checks.require(self.concurrency > 0, "concurrency", self.concurrency, at_least_one);
        let share = (0.0..=1.0).contains(&self.quarantine_limit);
        checks.require(share, "quarantine_limit", self.quarantine_limit, "in [0, 1]");
        let cache = feature_cache::invalid(self.feature_cache_dir.as_deref(), self.feature_cache_gb);
        cache.into_iter().for_each(|(key, reason)| checks.add(key, reason));
        checks.part("sampling", &keys(&self.sampling), self.sampling.validate());
        checks.done()
    }
}
