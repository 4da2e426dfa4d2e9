//! [`LoopConfig`], the section `[loop]`.

use std::path::PathBuf;

use isr_api::Sampling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::feature_cache;
use super::mix::{self, MixConfig};
use super::validate::{Checks, Invalid, keys};

/// Iterations, rollouts and caches of the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoopConfig {
    /// Number of iterations. Default 9, as in the paper.
    pub iterations: u32,
    /// Responses sampled per instruction, at least 2. With n > 2 distinct responses the judge compares all
    /// n (n - 1) / 2 pairs, and the best and the worst response form the preference pair. Default 2, as in the
    /// paper.
    pub responses: usize,
    /// Training samples per iteration, redrawn without replacement in each iteration. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Sampling parameters of the responses. The paper does not publish its values; the defaults (temperature 1,
    /// at most 256 tokens) are a choice of this project.
    pub sampling: Sampling,
    /// Control experiment: the judge reads the visual context of another video, by a random permutation that is
    /// redrawn in each iteration. The difference to a run without it is what the judge gains from the content of
    /// a context, as opposed to its presence. The contexts themselves are written as usual. Default false.
    pub mismatched_contexts: bool,
    /// Whose previous description the retrospector is shown. Default own.
    #[serde(skip_serializing_if = "PreviousContext::is_own")]
    pub previous_context: PreviousContext,
    /// Datasets of preference pairs that iterations train on beside, or with a share of 1 instead of, their own pairs:
    /// `[{ preferences = { type = "files", path = "pairs.jsonl" }, share = 0.2 }]`. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixConfig>,
    /// Number of samples processed concurrently; fewer if `feature_cache_mb` does not hold the videos of so many.
    /// Results do not depend on it. Default 32.
    pub concurrency: usize,
    /// Share of an iteration's samples, in [0, 1], that may be quarantined before the run stops with an error.
    /// Default 0.1.
    pub quarantine_limit: f64,
    /// Memory for decoded frames and visual features, in MiB: cached ones and those of samples being processed. A
    /// training step holds the videos of its batch, whatever their size. 0 disables the cache, and `concurrency`
    /// alone is the bound. Default 1024.
    pub feature_cache_mb: usize,
    /// Directory of the on-disk cache of visual features, which iterations, stages and runs share. `auto` is
    /// `isr-dpo/features` in the user's cache directory. Results do not depend on it. Default none: no cache on
    /// disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_cache_dir: Option<PathBuf>,
    /// Size limit of that directory, in GiB; the least recently used features are evicted. Default 20.
    pub feature_cache_gb: f64,
}

/// Previous visual context that the retrospector is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PreviousContext {
    /// The video's own, as in the paper.
    #[default]
    Own,
    /// Control experiment: that of another video, by a random permutation that is redrawn in each iteration. The
    /// difference to a run without it is what a description gains from the content of its predecessor, as opposed to its
    /// presence.
    Other,
}

impl PreviousContext {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

impl Default for LoopConfig {
    fn default() -> Self {
        Self {
            iterations: 9,
            responses: 2,
            samples: None,
            sampling: Sampling::default(),
            mismatched_contexts: false,
            previous_context: PreviousContext::Own,
            mix: Vec::new(),
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
        mix::check(&self.mix, self.iterations, &mut checks);
        checks.part("sampling", &keys(&self.sampling), self.sampling.validate());
        checks.done()
    }
}
