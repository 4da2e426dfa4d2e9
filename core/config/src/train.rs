//! [`TrainConfig`], the section `[train]`, and the learning-rate schedules.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{Checks, Invalid};

/// Training in each iteration. Each iteration starts with a fresh optimiser state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Epochs over the iteration's preference pairs. Default 1.
    pub epochs: u64,
    /// Global batch size: pairs per optimiser step, over all devices. Default 128, as in LLaVA-Hound.
    pub batch_size: usize,
    /// Peak learning rate. Default 5e-7.
    pub learning_rate: f64,
    /// Learning-rate schedule after warm-up. Default linear.
    pub schedule: Schedule,
    /// Share of the steps, in [0, 1], with linear warm-up of the learning rate from 0 to its peak. Default 0.1.
    pub warmup_ratio: f64,
    /// Gradient clipping threshold, a global L2 norm; 0 disables clipping. Default 1.
    #[serde(with = "zero_is_none")]
    #[schemars(with = "f64")]
    pub max_grad_norm: Option<f64>,
    /// Optimiser steps between snapshots, from which an interrupted training resumes. Default none: it restarts
    /// from the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_every: Option<u64>,
    /// Reference log-probs of the responses: `recorded` while they were sampled, or `recompute`d by scoring them before
    /// training, for policies in bfloat16 whose recorded ones differ (`sampling_score_drift` in a step's metrics).
    /// Default `recorded`.
    #[serde(skip_serializing_if = "ReferenceSource::is_recorded")]
    pub reference: ReferenceSource,
}

/// Source of the reference log-probs of sampled responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceSource {
    /// Those that were recorded while sampling, token by token.
    #[default]
    Recorded,
    /// Those of a forward pass over the whole response, by the reference policy before training.
    Recompute,
}

impl ReferenceSource {
    fn is_recorded(&self) -> bool {
        *self == Self::Recorded
    }
}

/// Learning-rate schedule after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Linear decay to 0.
    Linear,
    /// Cosine decay to 0, half a period.
    Cosine,
    /// Constant at the peak.
    Constant,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_size: 128,
            learning_rate: 5e-7,
            schedule: Schedule::Linear,
            warmup_ratio: 0.1,
            max_grad_norm: Some(1.0),
            snapshot_every: None,
            reference: ReferenceSource::Recorded,
        }
    }
}

impl TrainConfig {
    /// Returns the learning rate of optimiser step `step` (from 0) of `total_steps`.
    ///
    /// Equal to `get_linear_schedule_with_warmup`, `get_cosine_schedule_with_warmup` and
    /// `get_constant_schedule_with_warmup` of transformers (4.57.1, `optimization.py`), with
    /// `ceil(warmup_ratio * total_steps)` warm-up steps as in its `TrainingArguments`. With
    /// warm-up, the first step therefore has a learning rate of 0.
    pub fn learning_rate_at(&self, step: u64, total_steps: u64) -> f64 {
        let (step, total) = (step as f64, total_steps as f64);
        let warmup = (self.warmup_ratio * total).ceil();
        if step < warmup {
            return self.learning_rate * (step / warmup.max(1.0));
        }
        let rest = (total - warmup).max(1.0);
        let factor = match self.schedule {
            Schedule::Linear => (total - step) / rest,
            Schedule::Cosine => 0.5 * (1.0 + (PI * ((step - warmup) / rest)).cos()),
            Schedule::Constant => 1.0,
        };
        self.learning_rate * factor.max(0.0)
    }
}

impl TrainConfig {
    pub(super) fn invalid(&self) -> Vec<Invalid> {
        let mut checks = Checks::of("train");
        let positive = |value: f64| value.is_finite() && value > 0.0;
        checks.require(self.epochs > 0, "epochs", self.epochs, "at least 1");
        checks.require(self.batch_size > 0, "batch_size", self.batch_size, "at least 1");
        checks.require(positive(self.learning_rate), "learning_rate", self.learning_rate, "above 0");
        let share = (0.0..=1.0).contains(&self.warmup_ratio);
        checks.require(share, "warmup_ratio", self.warmup_ratio, "in [0, 1]");
        if let Some(norm) = self.max_grad_norm {
            checks.require(positive(norm), "max_grad_norm", norm, "0 (off) or more");
        }
        checks.require(self.snapshot_every != Some(0), "snapshot_every", 0, "at least 1");
        checks.done()
    }
}

/// Writes `None` as 0, since TOML has no null.
mod zero_is_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        value.unwrap_or(0.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        let value = f64::deserialize(from)?;
        Ok((value != 0.0).then_some(value))
    }
}
