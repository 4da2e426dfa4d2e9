//! [`SupervisedConfig`], the section `[training]` of `isr sft`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::feature_cache;
use super::train::{Schedule, TrainConfig};

/// Supervised fine-tuning on demonstrations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisedConfig {
    /// Number of optimiser steps. Default 1000.
    pub steps: u64,
    /// Passes over the demonstrations, which replace `steps`: the number of steps is `epochs` times the number of
    /// demonstrations, divided by `batch_size` and rounded up. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Whether demonstrations are shuffled, anew in each epoch, by the run seed. Default false: in order.
    #[serde(skip_serializing_if = "is_false")]
    pub shuffle: bool,
    /// Share of the rows, in [0, 1], that may be quarantined before training stops with an error. Default 0.1.
    #[serde(skip_serializing_if = "is_default_limit")]
    pub quarantine_limit: f64,
    /// Demonstrations per optimiser step. Default 32.
    pub batch_size: u64,
    /// Peak learning rate. Default 1e-3.
    pub learning_rate: f64,
    /// Learning-rate schedule after warm-up. Default cosine.
    pub schedule: Schedule,
    /// Share of the steps, in [0, 1], with linear warm-up of the learning rate from 0 to its peak. Default 0.02.
    pub warmup_ratio: f64,
    /// Gradient clipping threshold, a global L2 norm. Default 1.
    pub max_grad_norm: f64,
    /// Optimiser steps between snapshots, from which an interrupted training resumes. Default 200.
    pub snapshot_every: u64,
    /// Size of the memory cache of decoded frames and visual features, in MiB. Default 1024.
    pub feature_cache_mb: usize,
    /// Directory of the on-disk cache of visual features, as `loop.feature_cache_dir`. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_cache_dir: Option<PathBuf>,
    /// Size limit of that directory, in GiB. Default 20.
    pub feature_cache_gb: f64,
}

/// Default of `quarantine_limit`.
const QUARANTINE_LIMIT: f64 = 0.1;

// Keys that earlier versions did not have are left out at their defaults: the config of a run that goes on is compared.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

fn is_default_limit(value: &f64) -> bool {
    *value == QUARANTINE_LIMIT
}

impl Default for SupervisedConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            epochs: None,
            shuffle: false,
            quarantine_limit: QUARANTINE_LIMIT,
            batch_size: 32,
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.02,
            max_grad_norm: 1.0,
            snapshot_every: 200,
            feature_cache_mb: 1024,
            feature_cache_dir: None,
            feature_cache_gb: 20.0,
        }
    }
}

impl SupervisedConfig {
    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// A message that begins with the key of the first invalid value.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("steps", self.steps),
            ("batch_size", self.batch_size),
            ("snapshot_every", self.snapshot_every),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{key} is 0; it must be at least 1"));
        }
        if let Some(epochs) = self.epochs.filter(|epochs| !(epochs.is_finite() && *epochs > 0.0)) {
            return Err(format!("epochs is {epochs}; it must be more than 0"));
        }
        if !(0.0..=1.0).contains(&self.quarantine_limit) {
            return Err(format!("quarantine_limit is {}; it must be in [0, 1]", self.quarantine_limit));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(format!("learning_rate is {}; it must be more than 0", self.learning_rate));
        }
        let cache = feature_cache::invalid(self.feature_cache_dir.as_deref(), self.feature_cache_gb);
        cache.first().map_or(Ok(()), |(key, reason)| Err(format!("{key} {reason}")))
    }

    /// Resolves `epochs` to `steps` for so many demonstrations.
    #[must_use]
    pub fn with_steps_for(mut self, demonstrations: u64) -> Self {
        if let Some(epochs) = self.epochs {
            let steps = (epochs * demonstrations as f64 / self.batch_size as f64).ceil();
            self.steps = (steps as u64).max(1);
        }
        self
    }

    /// Returns the learning rate of optimiser step `step`, from 0.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        let schedule = TrainConfig {
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            warmup_ratio: self.warmup_ratio,
            ..TrainConfig::default()
        };
        schedule.learning_rate_at(step, self.steps)
    }
}
