//! Supervised training on demonstrations: the warm start that the loop begins with.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use isr_api::{
    ComponentError, Continuation, Demonstration, Demonstrations, Error, Event, Observer, Policy,
    PreferenceObjective, Prompt, Target, TrainExample, VideoEncoder, VideoReader,
};
use isr_config::SupervisedConfig;
use tokio_util::sync::CancellationToken;

use crate::feature_cache::FeatureCache;
use crate::guard::interruptible;
use crate::store::RunDir;
use crate::training::{Batches, Training};
use crate::video_cache::VideoCache;

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
    scenes: VideoCache,
}

impl SupervisedTraining {
    /// A training that is ready to run.
    pub fn new(parts: SupervisedParts) -> Self {
        let (video, encoder) = (parts.video.clone(), parts.encoder.clone());
        let SupervisedConfig { feature_cache_dir: dir, feature_cache_gb: size, .. } = &parts.settings;
        let scenes = VideoCache::new(video, encoder, parts.settings.feature_cache_mb)
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
