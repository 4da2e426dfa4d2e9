//! Supervised training on demonstrations: the warm start that the loop begins with.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::{Schedule, TrainConfig};
use crate::encoder::VideoEncoder;
use crate::error::{ComponentError, Error};
use crate::feature_cache::{self, FeatureCache};
use crate::guard::interruptible;
use crate::objective::PreferenceObjective;
use crate::observer::{Event, Observer};
use crate::policy::{Continuation, Policy, Target, TrainExample};
use crate::prompt::Prompt;
use crate::scenes::Scenes;
use crate::source::{Demonstration, Demonstrations};
use crate::store::RunDir;
use crate::training::{Batches, Training};
use crate::video::VideoReader;

/// How the policy learns from demonstrations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisedConfig {
    /// Optimiser steps. Default 1000.
    pub steps: u64,
    /// Demonstrations per step. Default 32.
    pub batch_size: u64,
    /// Peak learning rate. Default 1e-3.
    pub learning_rate: f64,
    /// Course of the learning rate after warm-up. Default cosine.
    pub schedule: Schedule,
    /// Share of the steps over which the learning rate rises to its peak. Default 0.02.
    pub warmup_ratio: f64,
    /// Largest L2 norm of the gradient. Default 1.
    pub max_grad_norm: f64,
    /// Steps between snapshots from which a training that was cut off continues. Default 200.
    pub snapshot_every: u64,
    /// Decoded frames and features kept in memory, in MiB. Default 1024.
    pub feature_cache_mb: usize,
    /// Folder of visual features that runs share, as `loop.feature_cache_dir`. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_cache_dir: Option<PathBuf>,
    /// Most that this folder may hold, in GiB. Default 20.
    pub feature_cache_gb: f64,
}

impl Default for SupervisedConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
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
    /// Names the first value that is out of range.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("steps", self.steps),
            ("batch_size", self.batch_size),
            ("snapshot_every", self.snapshot_every),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{key} is 0; it must be at least 1"));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(format!("learning_rate is {}; it must be more than 0", self.learning_rate));
        }
        let cache = feature_cache::invalid(self.feature_cache_dir.as_deref(), self.feature_cache_gb);
        cache.first().map_or(Ok(()), |(key, reason)| Err(format!("{key} {reason}")))
    }

    fn learning_rate_at(&self, step: u64) -> f64 {
        let schedule = TrainConfig {
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            warmup_ratio: self.warmup_ratio,
            ..TrainConfig::default()
        };
        schedule.learning_rate_at(step, self.steps)
    }
}

/// What a supervised training runs on.
pub struct SupervisedParts {
    /// Its name, for observers.
    pub name: String,
    /// Settings.
    pub settings: SupervisedConfig,
    /// What is learned from.
    pub demonstrations: Arc<dyn Demonstrations>,
    /// Reads videos.
    pub video: Arc<dyn VideoReader>,
    /// Encodes them; `None` where the policy's own tower does, as it must while it is trained.
    pub encoder: Option<Arc<dyn VideoEncoder>>,
    /// What is trained.
    pub policy: Arc<dyn Policy>,
    /// A loss on chosen answers alone.
    pub objective: Arc<dyn PreferenceObjective>,
    /// Where metrics, snapshots and the checkpoint go.
    pub store: RunDir,
    /// Who watches.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Stops the training in a state that can be continued.
    pub cancel: CancellationToken,
}

/// A supervised training: `metrics.jsonl`, snapshots under `training/`, and at its end `checkpoint/`.
pub struct SupervisedTraining {
    parts: SupervisedParts,
    scenes: Scenes,
}

impl SupervisedTraining {
    /// A training that is ready to run.
    pub fn new(parts: SupervisedParts) -> Self {
        let (video, encoder) = (parts.video.clone(), parts.encoder.clone());
        let SupervisedConfig { feature_cache_dir: dir, feature_cache_gb: size, .. } = &parts.settings;
        let scenes = Scenes::new(video, encoder, parts.settings.feature_cache_mb)
            .with_disk(FeatureCache::configured(dir.as_deref(), *size));
        Self { parts, scenes }
    }

    /// Trains, or goes on with a training that was cut; returns the checkpoint's path.
    ///
    /// # Errors
    /// The first demonstration or step that fails. What was done since the last snapshot is done again.
    pub async fn run(&self) -> Result<PathBuf, Error> {
        let SupervisedParts { settings, store, demonstrations, cancel, .. } = &self.parts;
        let checkpoint = Training::checkpoint(store.path());
        let count = match checkpoint.exists() {
            true => 0,
            false => {
                interruptible(cancel, demonstrations.prepare(), STAGE, "demonstrations").await?;
                let count = interruptible(cancel, demonstrations.count(), STAGE, "demonstrations").await?;
                if count == 0 {
                    return Err(Error::Config("`demonstrations` has none".to_owned()));
                }
                count
            }
        };
        let training = Training {
            dir: store.path(),
            iteration: 0,
            stage: STAGE,
            steps: settings.steps,
            snapshot_every: Some(settings.snapshot_every),
            max_grad_norm: Some(settings.max_grad_norm),
            learning_rate: &|step| settings.learning_rate_at(step),
            policy: self.parts.policy.as_ref(),
            objective: &self.parts.objective,
            observers: &self.parts.observers,
            cancel,
        };
        training.run(&DemonstrationBatches { of: self, count }).await?;
        for observer in &self.parts.observers {
            observer.observe(&Event::RunFinished);
        }
        Ok(checkpoint)
    }

    async fn example(&self, index: u64) -> Result<TrainExample, ComponentError> {
        let Demonstration { video, prompt, answer, .. } = self.parts.demonstrations.get(index).await?;
        let prompt = match video {
            Some(video) => Prompt::about(&self.scenes.open(&video).await?, prompt),
            None => Prompt::text(prompt),
        };
        let chosen = Target { continuation: Continuation::Answer(answer), reference: None };
        Ok(TrainExample::new(prompt, chosen, None))
    }
}

/// The name of what runs, in errors.
const STAGE: &str = "supervised training";

/// The demonstrations in their order, again and again.
struct DemonstrationBatches<'a> {
    of: &'a SupervisedTraining,
    count: u64,
}

#[async_trait]
impl Batches for DemonstrationBatches<'_> {
    fn epoch(&self, step: u64) -> u64 {
        step * self.of.parts.settings.batch_size / self.count
    }

    async fn examples(&self, step: u64) -> Result<Vec<TrainExample>, ComponentError> {
        let size = self.of.parts.settings.batch_size;
        let indices = step * size..(step + 1) * size;
        try_join_all(indices.map(|index| self.of.example(index % self.count))).await
    }
}
