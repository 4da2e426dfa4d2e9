//! The training loop over optimiser steps, shared by preference and supervised training. Each step is journalled,
//! and an interrupted training resumes from its newest snapshot.
//!
//! The directory holds `metrics.jsonl`, `training/step-NNNNNN/` (the newest snapshot, during training) and, after
//! training, `checkpoint/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, MaybeDone, maybe_done, select};
use isr_api::records::TrainRecord;
use isr_api::{
    CheckpointKind, ComponentError, Error, Event, Policy, PreferenceObjective, Stage, StepReport, Streams,
    TrainExample, TrainStep,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::guard::{caught, component_error, interruptible};
use crate::observers::Observers;
use crate::processes::Processes;
use crate::stop::Stop;
use crate::stopwatch::Stopwatch;
use crate::store::{
    Journal, PendingDir, create_dir_here, explained, iteration_dir, read_journal, remove_dir, to_lines,
    tree_bytes, write_atomic,
};

/// The batches of a training, by step. With a policy that trains in parallel, this process's part of each.
#[async_trait]
pub(crate) trait Batches: Sync {
    /// Returns the epoch of a step, from 0.
    fn epoch(&self, step: u64) -> u64;

    /// Returns the examples of a step. Deterministic.
    async fn examples(&self, step: u64) -> Result<Vec<TrainExample>, ComponentError>;
}

/// Examples of a step, or why there are none.
type Examples = Result<Vec<TrainExample>, Error>;

/// Examples that are being prepared, or are there.
type Prepared<'a> = Pin<Box<MaybeDone<BoxFuture<'a, Examples>>>>;

/// A training of a fixed number of steps.
pub(crate) struct Training<'a> {
    /// Directory of metrics, snapshots and checkpoint.
    pub(crate) dir: &'a Path,
    /// Iteration in events and random streams.
    pub(crate) iteration: u32,
    /// Random streams of the run.
    pub(crate) streams: Streams,
    /// Stage name in errors.
    pub(crate) stage: &'a str,
    pub(crate) steps: u64,
    /// Steps between snapshots; `None` disables them.
    pub(crate) snapshot_every: Option<u64>,
    pub(crate) max_grad_norm: Option<f64>,
    /// Learning-rate schedule: step to learning rate.
    pub(crate) learning_rate: &'a (dyn Fn(u64) -> f64 + Sync),
    pub(crate) policy: &'a dyn Policy,
    pub(crate) objective: &'a Arc<dyn PreferenceObjective>,
    pub(crate) observers: &'a Observers,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) stop: &'a Stop,
    pub(crate) processes: &'a Processes,
}

impl Training<'_> {
    /// Path of the checkpoint, which exists once the training is complete.
    pub(crate) fn checkpoint(dir: &Path) -> PathBuf {
        dir.join("checkpoint")
    }

    /// Takes the remaining steps and writes the checkpoint, unless it exists; returns the records of all steps.
    ///
    /// # Errors
    /// [`Error::Cancelled`] on a request to stop, with a snapshot behind the step that was under way.
    pub(crate) async fn run(&self, batches: &impl Batches) -> Result<Vec<TrainRecord>, Error> {
        self.stop.while_training(self.train(batches)).await
    }

    async fn train(&self, batches: &impl Batches) -> Result<Vec<TrainRecord>, Error> {
        let checkpoint = Self::checkpoint(self.dir);
        let leads = self.processes.leads();
        if !self.processes.agree(leads.then(|| checkpoint.exists())).await? {
            let stopwatch = Stopwatch::start(self.policy);
            if self.takes_part() {
                self.take_steps(batches).await?;
            }
            self.save(&checkpoint, CheckpointKind::Model).await?;
            if !self.takes_part() {
                let (call, path) =
                    (self.policy.load(&checkpoint, CheckpointKind::Model), checkpoint.display());
                self.call(call, "load checkpoint", &path.to_string()).await?;
            }
            self.check_weights().await?;
            let ((seconds, busy), iteration) = (stopwatch.seconds(), self.iteration);
            if self.policy.trains_in_parallel() && self.processes.are_several() {
                let worked: Option<Vec<f64>> = self.processes.gather(busy).await?.into_iter().collect();
                if let Some(seconds) = worked {
                    self.observe(&Event::StageDivided {
                        iteration,
                        stage: Stage::Train,
                        seconds: &seconds,
                    });
                }
            }
            let finished = Event::StageFinished { iteration, stage: Stage::Train, seconds, busy };
            self.observe(&finished);
        }
        // Also after a kill between the checkpoint and this line, hence outside the branch.
        if leads {
            remove_dir(&self.snapshots())?;
        }
        let records = read_journal(&self.metrics())?;
        check_steps(&self.metrics(), &records, self.steps)?;
        Ok(records)
    }

    /// Whether this process trains: the leader, and with a policy that trains in parallel all.
    fn takes_part(&self) -> bool {
        self.processes.leads() || self.policy.trains_in_parallel()
    }

    /// Rejects processes that ended with different weights.
    async fn check_weights(&self) -> Result<(), Error> {
        if !self.processes.are_several() {
            return Ok(());
        }
        let own = caught(self.stage, "fingerprint", || self.policy.try_fingerprint())?;
        let all = self.processes.gather(own).await?;
        match all.iter().position(|other| *other != all[0]) {
            Some(rank) => {
                let (leader, other) = (&all[0], &all[rank]);
                let text = format!(
                    "the weights of process {rank} are {other} after training, and those of process 0 {leader}; start \
                     the run again, which goes on before this training"
                );
                Err(component_error(self.stage, "weights", ComponentError::failed(text)))
            }
            None => Ok(()),
        }
    }

    async fn take_steps(&self, batches: &impl Batches) -> Result<(), Error> {
        let first = self.restore().await?;
        let mut journal = match self.processes.leads() {
            true => Some(truncated(&self.metrics(), first)?),
            false => None,
        };
        let (iteration, done, total) = (self.iteration, first as usize, self.steps as usize);
        self.observe(&Event::StageStarted { iteration, stage: Stage::Train, done, total });
        let mut next = self.prepared(first, batches);
        for step in first..self.steps {
            next.as_mut().await;
            let taken = || ComponentError::failed("its examples were taken before");
            let examples = next.as_mut().take_output();
            let examples = examples.ok_or_else(|| component_error(self.stage, "examples", taken()))??;
            next = self.prepared(step + 1, batches);
            let record = self.step(step, examples, batches, next.as_mut()).await?;
            if let Some(journal) = &mut journal {
                journal.append(&record)?;
            }
            self.observe(&Event::TrainStep { iteration, step, report: &record.report });
            let done = step + 1;
            if done == self.steps {
                break;
            }
            let stops = self.any_stops().await?;
            if stops || self.snapshot_every.is_some_and(|every| done.is_multiple_of(every)) {
                journal.as_ref().map_or(Ok(()), Journal::sync)?;
                self.snapshot(done).await?;
            }
            if stops {
                return Err(Error::Cancelled);
            }
        }
        journal.as_ref().map_or(Ok(()), Journal::sync)
    }

    /// Returns whether a process that trains has been asked to stop.
    async fn any_stops(&self) -> Result<bool, Error> {
        let own = self.stop.is_requested();
        match self.policy.trains_in_parallel() {
            true => Ok(self.processes.gather(own).await?.contains(&true)),
            false => Ok(own),
        }
    }

    /// Takes a step, while the examples of the next one are prepared, whose videos may have to be decoded.
    async fn step(
        &self,
        step: u64,
        examples: Vec<TrainExample>,
        batches: &impl Batches,
        next: Pin<&mut MaybeDone<BoxFuture<'_, Examples>>>,
    ) -> Result<TrainRecord, Error> {
        let subject = format!("step {step}");
        let learning_rate = (self.learning_rate)(step);
        let seed = self.streams.seed(self.iteration, Stage::Train.name(), &step.to_string());
        let request = TrainStep { examples, step, learning_rate, max_grad_norm: self.max_grad_norm, seed };
        let call = self.policy.train_step(request, Arc::clone(self.objective));
        let call = std::pin::pin!(self.call(call, self.stage, &subject));
        // The step does not wait for the preparation to end.
        let report = match select(call, next).await {
            Either::Left((report, _)) => report?,
            Either::Right(((), call)) => call.await?,
        };
        check_report(&report).map_err(|source| component_error(self.stage, &subject, source))?;
        Ok(TrainRecord { step, epoch: batches.epoch(step), learning_rate, report })
    }

    /// Prepares the examples of a step; none behind the last.
    fn prepared<'a>(&'a self, step: u64, batches: &'a impl Batches) -> Prepared<'a> {
        let examples = async move {
            match step < self.steps {
                true => self.call(batches.examples(step), self.stage, &format!("step {step}")).await,
                false => Ok(Vec::new()),
            }
        };
        Box::pin(maybe_done(examples.boxed()))
    }

    /// Loads the newest snapshot, if there is one; returns the next step.
    async fn restore(&self) -> Result<u64, Error> {
        let newest = self.leaders(|| newest_snapshot(&self.snapshots())).await?;
        let Some((step, path)) = newest else {
            return Ok(0);
        };
        let call = self.policy.load(&path, CheckpointKind::TrainerState);
        self.call(call, "resume training", &path.display().to_string()).await?;
        Ok(step)
    }

    /// Saves a snapshot, then removes the previous one.
    async fn snapshot(&self, done: u64) -> Result<(), Error> {
        let folder = self.snapshots();
        create_dir_here(&folder)?;
        let old = newest_snapshot(&folder).filter(|_| self.processes.leads());
        self.save(&folder.join(format!("step-{done:06}")), CheckpointKind::TrainerState).await?;
        old.map_or(Ok(()), |(_, path)| remove_dir(&path))
    }

    /// Returns what the leader finds, to each process that trains.
    async fn leaders<T: Serialize + DeserializeOwned>(&self, find: impl FnOnce() -> T) -> Result<T, Error> {
        match self.policy.trains_in_parallel() {
            true => self.processes.agree(self.processes.leads().then(find)).await,
            // The others do not get here.
            false => Ok(find()),
        }
    }

    /// Saves a checkpoint atomically: the leader creates and publishes the directory, and each process that trains writes
    /// into it.
    async fn save(&self, path: &Path, what: CheckpointKind) -> Result<(), Error> {
        let pending = if self.processes.leads() { Some(PendingDir::create(path)?) } else { None };
        let is_shared = what == CheckpointKind::Model || self.policy.trains_in_parallel();
        let dir = match &pending {
            Some(pending) if !is_shared => pending.dir().to_owned(),
            pending => self.processes.agree(pending.as_ref().map(|it| it.dir().to_owned())).await?,
        };
        let saved = match self.takes_part() {
            true => self.call(self.policy.save(&dir, what), "save", &path.display().to_string()).await,
            false => Ok(()),
        };
        match (saved, pending) {
            (Ok(()), pending) => {
                if is_shared {
                    self.processes.meet().await?;
                }
                pending.map_or(Ok(()), PendingDir::publish)?;
                if is_shared { self.processes.meet().await } else { Ok(()) }
            }
            // The policy may still be writing.
            (Err(Error::Cancelled), _) => Err(Error::Cancelled),
            // Another process writes into it too.
            (Err(error), Some(_)) if self.processes.are_several() => Err(error),
            (Err(error), None) => Err(error),
            (Err(error), Some(pending)) => {
                let written = pending.discard();
                Err(explained(error, path, written.max(self.earlier_checkpoint())))
            }
        }
    }

    /// Bytes of the checkpoint of the iteration before, 0 without one.
    fn earlier_checkpoint(&self) -> u64 {
        let before = self.iteration.checked_sub(1).zip(self.dir.parent());
        let dir = before.map(|(before, run)| Self::checkpoint(&iteration_dir(run, before)));
        dir.and_then(|dir| tree_bytes(&dir).ok()).unwrap_or(0)
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, ComponentError>>,
        stage: &str,
        subject: &str,
    ) -> Result<T, Error> {
        interruptible(self.cancel, call, stage, subject).await
    }

    fn metrics(&self) -> PathBuf {
        self.dir.join("metrics.jsonl")
    }

    fn snapshots(&self) -> PathBuf {
        self.dir.join("training")
    }

    fn observe(&self, event: &Event<'_>) {
        self.observers.observe(event);
    }
}

/// Rejects NaN and infinities: a diverged training does not recover.
fn check_report(report: &StepReport) -> Result<(), ComponentError> {
    let own = [("loss", report.loss), ("gradient norm", report.grad_norm)];
    let metrics = report.metrics.iter().map(|(name, value)| (name.as_str(), *value));
    match own.into_iter().chain(metrics).find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => {
            Err(ComponentError::failed(format!("the {name} is {value}; lower the learning rate")))
        }
        None => Ok(()),
    }
}

/// Truncates the journal to the first `steps` records; later ones belong to lost work.
fn truncated(path: &Path, steps: u64) -> Result<Journal<TrainRecord>, Error> {
    let mut records: Vec<TrainRecord> = read_journal(path)?;
    records.retain(|record| record.step < steps);
    if (records.len() as u64) < steps {
        let reason = format!("it has {} of the {steps} steps before the training snapshot", records.len());
        return Err(Error::Damaged { path: path.to_owned(), reason });
    }
    check_steps(path, &records, steps)?;
    write_atomic(path, to_lines(path, &records)?.as_bytes())?;
    Ok(Journal::open(path)?.0)
}

/// Rejects steps that are missing, repeated or too many.
fn check_steps(path: &Path, records: &[TrainRecord], steps: u64) -> Result<(), Error> {
    let damaged = |reason| Err(Error::Damaged { path: path.to_owned(), reason });
    match (0..).zip(records).find(|(step, record)| record.step != *step) {
        Some((step, record)) => {
            damaged(format!("line {} is of step {}, and should be of step {step}", step + 1, record.step))
        }
        None if records.len() as u64 != steps => {
            damaged(format!("it has {} steps, and the training has {steps}", records.len()))
        }
        None => Ok(()),
    }
}

fn newest_snapshot(folder: &Path) -> Option<(u64, PathBuf)> {
    let paths = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let step = |path: PathBuf| {
        let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        Some((step, path))
    };
    paths.filter_map(step).max()
}
