//! Supervised training on demonstrations: the warm start that the loop begins with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::future::try_join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::{Schedule, TrainConfig};
use crate::encoder::VideoEncoder;
use crate::error::{ComponentError, Error};
use crate::objective::PreferenceObjective;
use crate::observer::{Event, Observer, Stage};
use crate::policy::{Continuation, Policy, Snapshot, Target, TrainExample, TrainStep};
use crate::prompt::Prompt;
use crate::scenes::Scenes;
use crate::source::{Demonstration, Demonstrations};
use crate::store::{
    Journal, PendingDir, RunDir, TrainRecord, read_journal, read_json, to_lines, write_atomic, write_json,
};
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
        Ok(())
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
        let scenes = Scenes::new(video, encoder, parts.settings.feature_cache_mb);
        Self { parts, scenes }
    }

    /// Trains, or goes on with a training that was cut; returns the checkpoint's path.
    ///
    /// # Errors
    /// The first demonstration or step that fails. What was done since the last snapshot is done again.
    pub async fn run(&self) -> Result<PathBuf, Error> {
        let dir = self.parts.store.path();
        let checkpoint = dir.join("checkpoint");
        if checkpoint.exists() {
            // A kill may have come between publishing it and this.
            remove_snapshot(dir)?;
            return Ok(checkpoint);
        }
        self.call(self.parts.demonstrations.prepare(), "demonstrations").await?;
        let count = self.call(self.parts.demonstrations.count(), "demonstrations").await?;
        if count == 0 {
            return Err(Error::Config("`demonstrations` has none".to_owned()));
        }
        let first = self.restore(dir).await?;
        let mut journal = truncated(&dir.join("metrics.jsonl"), first)?;
        let settings = &self.parts.settings;
        let stage = Stage::Train;
        let (done, total) = (first as usize, settings.steps as usize);
        self.observe(&Event::StageStarted { iteration: 0, stage, done, total });
        let started = Instant::now();
        for step in first..settings.steps {
            let record = self.step(step, count).await?;
            self.observe(&Event::TrainStep { iteration: 0, step, report: &record.report });
            journal.append(&record)?;
            if (step + 1).is_multiple_of(settings.snapshot_every) && step + 1 < settings.steps {
                journal.sync()?;
                self.save(&dir.join(SNAPSHOT), Snapshot::Training, step + 1).await?;
            }
        }
        journal.sync()?;
        self.save(&checkpoint, Snapshot::Weights, settings.steps).await?;
        remove_snapshot(dir)?;
        let seconds = started.elapsed().as_secs_f64();
        self.observe(&Event::StageFinished { iteration: 0, stage, seconds });
        self.observe(&Event::RunFinished);
        Ok(checkpoint)
    }

    async fn step(&self, step: u64, count: u64) -> Result<TrainRecord, Error> {
        let settings = &self.parts.settings;
        let first = step * settings.batch_size;
        let indices = first..first + settings.batch_size;
        let examples = try_join_all(indices.map(|index| self.example(index % count)));
        let subject = format!("step {step}");
        let examples = self.call(examples, &subject).await?;
        let learning_rate = settings.learning_rate_at(step);
        let max_grad_norm = Some(settings.max_grad_norm);
        let request = TrainStep { examples, step, learning_rate, max_grad_norm };
        let call = self.parts.policy.train_step(request, Arc::clone(&self.parts.objective));
        let report = self.call(call, &subject).await?;
        if !report.loss.is_finite() || !report.grad_norm.is_finite() {
            let text = format!("the loss is {}; lower learning_rate", report.loss);
            let source = ComponentError::failed(text);
            return Err(Error::Component { stage: "train".to_owned(), subject, source });
        }
        Ok(TrainRecord { step, epoch: first / count, learning_rate, report })
    }

    async fn example(&self, index: u64) -> Result<TrainExample, ComponentError> {
        let Demonstration { video, prompt, answer, .. } = self.parts.demonstrations.get(index).await?;
        let prompt = match video {
            Some(video) => Prompt::about(&self.scenes.open(&video).await?, prompt),
            None => Prompt::text(prompt),
        };
        let chosen = Target { continuation: Continuation::Answer(answer), reference: None };
        Ok(TrainExample { prompt, chosen, rejected: None })
    }

    /// Loads the snapshot of a training that was cut, if there is one; returns the step to go on with.
    async fn restore(&self, dir: &Path) -> Result<u64, Error> {
        let path = dir.join(SNAPSHOT);
        if !path.exists() {
            return Ok(0);
        }
        self.call(self.parts.policy.load(&path, Snapshot::Training), "snapshot").await?;
        let step = path.join(STEP);
        read_json(&step)?.ok_or_else(|| Error::Damaged { path: step, reason: "it is missing".to_owned() })
    }

    async fn save(&self, path: &Path, what: Snapshot, steps: u64) -> Result<(), Error> {
        let pending = PendingDir::create(path)?;
        self.call(self.parts.policy.save(pending.dir(), what), &path.display().to_string()).await?;
        if what == Snapshot::Training {
            write_json(&pending.dir().join(STEP), &steps)?;
        }
        pending.publish()
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, ComponentError>>,
        subject: &str,
    ) -> Result<T, Error> {
        let outcome = tokio::select! {
            biased;
            () = self.parts.cancel.cancelled() => return Err(Error::Cancelled),
            outcome = call => outcome,
        };
        let stage = "supervised training".to_owned();
        outcome.map_err(|source| Error::Component { stage, subject: subject.to_owned(), source })
    }

    fn observe(&self, event: &Event<'_>) {
        for observer in &self.parts.observers {
            observer.observe(event);
        }
    }
}

/// The newest snapshot's folder.
const SNAPSHOT: &str = "training";

/// The file in it that says how many steps were taken.
const STEP: &str = "step.json";

fn remove_snapshot(dir: &Path) -> Result<(), Error> {
    let path = dir.join(SNAPSHOT);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

fn truncated(path: &Path, steps: u64) -> Result<Journal<TrainRecord>, Error> {
    let mut records: Vec<TrainRecord> = read_journal(path)?;
    records.retain(|record| record.step < steps);
    write_atomic(path, to_lines(path, &records)?.as_bytes())?;
    Ok(Journal::open(path)?.0)
}
