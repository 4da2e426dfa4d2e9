//! Supervised fine-tuning on demonstrations, the warm start of the loop.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::join_all;
use isr_api::{
    ComponentError, Continuation, Demonstration, Demonstrations, Error, Event, Observer, Policy,
    PreferenceObjective, Prompt, Streams, Target, TrainExample, VideoEncoder, VideoReader,
};
use isr_config::SupervisedConfig;
use rand::seq::SliceRandom;
use tokio_util::sync::CancellationToken;

use crate::demonstration_quarantine::DemonstrationQuarantine;
use crate::feature_cache::FeatureCache;
use crate::guard::interruptible;
use crate::look::Look;
use crate::observers::Observers;
use crate::processes::Processes;
use crate::stop::Stop;
use crate::store::RunDir;
use crate::training::{Batches, Training};
use crate::video_cache::VideoCache;

/// The inputs of a [`SupervisedTraining`].
pub struct SupervisedParts {
    /// Name of the training, for observers.
    pub name: String,
    /// Run seed, from which all random streams derive.
    pub seed: u64,
    /// Config section `[training]`.
    pub settings: SupervisedConfig,
    /// Training data.
    pub demonstrations: Arc<dyn Demonstrations>,
    /// Video decoder and frame sampler.
    pub video: Arc<dyn VideoReader>,
    /// Frozen vision tower; `None` if the policy's own tower encodes the frames, as it must while it is trained.
    pub encoder: Option<Arc<dyn VideoEncoder>>,
    /// Model to train.
    pub policy: Arc<dyn Policy>,
    /// Loss that requires [`View::Chosen`](isr_api::View::Chosen) only.
    pub objective: Arc<dyn PreferenceObjective>,
    /// Directory of metrics, snapshots and checkpoint.
    pub store: RunDir,
    /// Receivers of events.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Cancels the training; it can be resumed.
    pub cancel: CancellationToken,
}

/// Supervised fine-tuning. Writes `metrics.jsonl`, snapshots under `training/`, and finally `checkpoint/`.
pub struct SupervisedTraining {
    parts: SupervisedParts,
    observers: Observers,
    videos: VideoCache,
    stop: Stop,
}

impl SupervisedTraining {
    /// Creates a training. Reads and writes nothing yet.
    pub fn new(mut parts: SupervisedParts) -> Self {
        let observers = Observers::new(std::mem::take(&mut parts.observers));
        let (video, encoder) = (parts.video.clone(), parts.encoder.clone());
        let SupervisedConfig { feature_cache_dir: dir, feature_cache_gb: size, .. } = &parts.settings;
        let videos = VideoCache::new(video, encoder, parts.settings.feature_cache_mb)
            .with_disk(FeatureCache::configured(dir.as_deref(), *size));
        Self { parts, observers, videos, stop: Stop::default() }
    }

    /// Ends the training behind its current step, with a snapshot, when the token is cancelled.
    #[must_use]
    pub fn stopped_by(mut self, token: CancellationToken) -> Self {
        self.stop = Stop::on(token);
        self
    }

    /// Trains, or resumes an interrupted training; returns the path of the checkpoint.
    ///
    /// # Errors
    /// The first demonstration or step that fails. A resumed training repeats the steps since the last snapshot.
    pub async fn run(&self) -> Result<PathBuf, Error> {
        self.stop.watch(&self.parts.cancel, self.train()).await
    }

    async fn train(&self) -> Result<PathBuf, Error> {
        let SupervisedParts { settings, store, demonstrations, cancel, .. } = &self.parts;
        let checkpoint = Training::checkpoint(store.path());
        let quarantine = DemonstrationQuarantine::open(store.path(), STAGE, settings.quarantine_limit)?;
        // The number of steps may depend on the number of demonstrations.
        let count = match checkpoint.exists() && settings.epochs.is_none() {
            true => 0,
            false => {
                interruptible(cancel, demonstrations.prepare(), STAGE, "demonstrations").await?;
                let count = interruptible(cancel, demonstrations.count(), STAGE, "demonstrations").await?;
                let unusable =
                    interruptible(cancel, demonstrations.unusable(), STAGE, "demonstrations").await?;
                quarantine.set_rows(&unusable, count)?;
                if count == 0 {
                    return Err(Error::Config("`demonstrations` has none".to_owned()));
                }
                count
            }
        };
        let settings = settings.clone().with_steps_for(count);
        let training = Training {
            dir: store.path(),
            iteration: 0,
            streams: Streams::new(self.parts.seed),
            stage: STAGE,
            steps: settings.steps,
            snapshot_every: Some(settings.snapshot_every),
            max_grad_norm: Some(settings.max_grad_norm),
            learning_rate: &|step| settings.learning_rate_at(step),
            policy: self.parts.policy.as_ref(),
            objective: &self.parts.objective,
            observers: &self.observers,
            cancel,
            stop: &self.stop,
            processes: &Processes::single(cancel.clone()),
        };
        training
            .run(&DemonstrationBatches { of: self, count, quarantine, order: Mutex::default() })
            .await?;
        store.check_present()?;
        self.observers.observe(&Event::RunFinished);
        Ok(checkpoint)
    }

    /// The example of a demonstration in an epoch, each of which sees videos by a look of its own.
    async fn example(&self, index: u64, epoch: u64) -> Result<TrainExample, ComponentError> {
        let Demonstration { video, turns, prompt, answer, .. } =
            self.parts.demonstrations.get(index).await?;
        let scene = match video {
            Some(video) => {
                let iteration = u32::try_from(epoch).unwrap_or(u32::MAX);
                let look = Look::Drawn { streams: Streams::new(self.parts.seed), iteration };
                Some(self.videos.open(&video, look).await?)
            }
            None => None,
        };
        let prompt = Prompt::conversation(scene.as_ref(), &turns, prompt);
        let chosen = Target { continuation: Continuation::Answer(answer), reference: None };
        Ok(TrainExample::new(prompt, chosen, None))
    }
}

/// Name of the stage in errors.
const STAGE: &str = "supervised training";

/// Batches of demonstrations, cyclically: in order, or shuffled in each epoch.
struct DemonstrationBatches<'a> {
    of: &'a SupervisedTraining,
    count: u64,
    quarantine: DemonstrationQuarantine,
    /// The shuffled order of one epoch, the last that was asked for.
    order: Mutex<Option<(u64, Vec<u64>)>>,
}

impl DemonstrationBatches<'_> {
    /// Index of the demonstration at a place of the training.
    fn index(&self, place: u64) -> u64 {
        let (epoch, within) = (place / self.count, place % self.count);
        if !self.of.parts.settings.shuffle {
            return within;
        }
        let mut kept = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let order = match kept.take() {
            Some((of, order)) if of == epoch => order,
            _ => {
                let mut order: Vec<u64> = (0..self.count).collect();
                order.shuffle(&mut Streams::new(self.of.parts.seed).rng(0, "shuffle", &epoch.to_string()));
                order
            }
        };
        let index = order[within as usize];
        *kept = Some((epoch, order));
        index
    }
}

#[async_trait]
impl Batches for DemonstrationBatches<'_> {
    fn epoch(&self, step: u64) -> u64 {
        step * self.of.parts.settings.batch_size / self.count
    }

    async fn examples(&self, step: u64) -> Result<Vec<TrainExample>, ComponentError> {
        let size = self.of.parts.settings.batch_size;
        let places = step * size..(step + 1) * size;
        let calls = places.clone().map(|place| self.of.example(self.index(place), place / self.count));
        let found = join_all(calls).await;
        let mut examples = Vec::new();
        for (place, outcome) in places.zip(found) {
            match outcome {
                Ok(example) => examples.push(example),
                // A video that cannot be read costs its demonstration, not the training.
                Err(ComponentError::BadInput(cause)) => {
                    let Demonstration { id, .. } =
                        self.of.parts.demonstrations.get(self.index(place)).await?;
                    self.quarantine.add(id, cause.to_string()).map_err(ComponentError::failed)?;
                }
                Err(error) => return Err(error),
            }
        }
        match examples.is_empty() {
            true => Err(ComponentError::failed("no demonstration of this batch can be used")),
            false => Ok(examples),
        }
    }
}
