//! Training: pi_{t+1} from pi_t and the pairs, with pi_t as the reference.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use rand::seq::SliceRandom;

use super::IterativeLoop;
use super::guard::component_error;
use super::select::Selected;
use super::stage::in_iteration;
use crate::error::{ComponentError, Error};
use crate::observer::{Event, Stage};
use crate::policy::{Continuation, Snapshot, StepReport, Target, TrainExample, TrainStep};
use crate::prompt::Prompt;
use crate::response::Response;
use crate::store::{
    Journal, PairRecord, PairSummary, PendingDir, ResponseRecord, TrainRecord, TrainSummary, read_journal,
    remove_dir, to_lines, write_atomic,
};

/// Optimiser steps of one iteration's training.
struct Schedule {
    pairs: usize,
    batch: usize,
    epochs: u64,
}

impl Schedule {
    fn steps_per_epoch(&self) -> u64 {
        self.pairs.div_ceil(self.batch) as u64
    }

    fn steps(&self) -> u64 {
        self.epochs * self.steps_per_epoch()
    }
}

/// What training leaves for the summary.
pub(super) struct Trained {
    pub(super) pairs: PairSummary,
    pub(super) training: TrainSummary,
}

impl IterativeLoop {
    /// Trains on the pairs and writes the checkpoint, unless that was done before.
    pub(super) async fn train(
        &self,
        t: u32,
        responses: &[ResponseRecord],
        selected: &Selected,
    ) -> Result<Trained, Error> {
        let dir = self.parts.store.iteration(t)?;
        let schedule = Schedule {
            pairs: selected.pairs.len(),
            batch: self.parts.train.batch_size.max(1),
            epochs: self.parts.train.epochs,
        };
        let checkpoint = dir.join("checkpoint");
        if !checkpoint.exists() {
            let started = Instant::now();
            self.run_training(t, &dir, responses, &selected.pairs, &schedule).await?;
            self.save(&checkpoint, Snapshot::Weights).await?;
            let seconds = started.elapsed().as_secs_f64();
            self.observe(&Event::StageFinished { iteration: t, stage: Stage::Train, seconds });
        }
        // A run may have been cut off right here, so this does not hang on what was done above.
        remove_dir(&dir.join("training"))?;
        let records = read_journal(&dir.join("metrics.jsonl"))?;
        Ok(Trained { pairs: selected.summary.clone(), training: summary(&records, &schedule) })
    }

    async fn run_training(
        &self,
        t: u32,
        dir: &Path,
        responses: &[ResponseRecord],
        pairs: &[PairRecord],
        schedule: &Schedule,
    ) -> Result<(), Error> {
        let first = self.restore_training(dir).await?;
        let mut journal = truncated_journal(&dir.join("metrics.jsonl"), first)?;
        let steps = schedule.steps();
        let (done, total, stage) = (first as usize, steps as usize, in_iteration(t, Stage::Train.name()));
        self.observe(&Event::StageStarted { iteration: t, stage: Stage::Train, done, total });
        let by_sample = responses.iter().map(|record| (record.sample.as_str(), record)).collect();
        for step in first..steps {
            let epoch = step / schedule.steps_per_epoch();
            let batch = self.batch(t, pairs, schedule, step);
            let learning_rate = self.parts.train.learning_rate_at(step, steps);
            let subject = format!("step {step}");
            let examples = self.interruptible(self.examples(&batch, &by_sample), &stage, &subject).await?;
            let max_grad_norm = self.parts.train.max_grad_norm;
            let request = TrainStep { examples, step, learning_rate, max_grad_norm };
            let objective = Arc::clone(&self.parts.components.objective);
            let call = self.parts.components.policy.train_step(request, objective);
            let report = self.interruptible(call, &stage, &subject).await?;
            check_report(&report).map_err(|source| component_error(&stage, &subject, source))?;
            let record = TrainRecord { step, epoch, learning_rate, report };
            journal.append(&record)?;
            self.observe(&Event::TrainStep { iteration: t, step, report: &record.report });
            self.snapshot_training(dir, step + 1, steps, &journal).await?;
        }
        journal.sync()
    }

    /// The pairs of a step: each epoch goes through all pairs in an order of its own.
    fn batch<'a>(
        &self,
        t: u32,
        pairs: &'a [PairRecord],
        schedule: &Schedule,
        step: u64,
    ) -> Vec<&'a PairRecord> {
        let (epoch, within) = (step / schedule.steps_per_epoch(), step % schedule.steps_per_epoch());
        let mut order: Vec<&PairRecord> = pairs.iter().collect();
        order.shuffle(&mut self.streams.rng(t, "shuffle", &epoch.to_string()));
        let start = within as usize * schedule.batch;
        order.into_iter().skip(start).take(schedule.batch).collect()
    }

    /// What the policy is trained on in a step; videos that are no longer in memory are read again.
    async fn examples(
        &self,
        batch: &[&PairRecord],
        responses: &HashMap<&str, &ResponseRecord>,
    ) -> Result<Vec<TrainExample>, ComponentError> {
        let example = |pair: &PairRecord| {
            let pair = pair.clone();
            let record = responses.get(pair.id.as_str()).copied();
            let answer = |index: usize| record.and_then(|record| record.responses.get(index)).map(target);
            let targets = (answer(pair.chosen_index), answer(pair.rejected_index));
            async move {
                let (Some(chosen), rejected @ Some(_)) = targets else {
                    return Err(ComponentError::failed(format!("no responses of sample {}", pair.id)));
                };
                let scene = self.scenes.open(pair.video.as_ref()).await?;
                Ok(TrainExample { prompt: Prompt::about(&scene, pair.prompt), chosen, rejected })
            }
        };
        let calls: Vec<_> = batch.iter().map(|pair| example(pair)).collect();
        futures::stream::iter(calls).buffered(self.parts.settings.in_flight.max(1)).try_collect().await
    }

    /// Loads the newest training snapshot, if there is one; returns the step to go on with.
    async fn restore_training(&self, dir: &Path) -> Result<u64, Error> {
        let Some((step, path)) = newest_snapshot(&dir.join("training")) else {
            return Ok(0);
        };
        let policy = &self.parts.components.policy;
        let subject = path.display().to_string();
        self.interruptible(policy.load(&path, Snapshot::Training), "resume training", &subject).await?;
        Ok(step)
    }

    async fn snapshot_training(
        &self,
        dir: &Path,
        done: u64,
        steps: u64,
        journal: &Journal<TrainRecord>,
    ) -> Result<(), Error> {
        let due = self.parts.train.snapshot_every.is_some_and(|every| done.is_multiple_of(every));
        if !due || done == steps {
            return Ok(());
        }
        journal.sync()?;
        let folder = dir.join("training");
        let old = newest_snapshot(&folder);
        self.save(&folder.join(format!("step-{done:06}")), Snapshot::Training).await?;
        old.map_or(Ok(()), |(_, path)| remove_dir(&path))
    }

    /// Saves a snapshot that appears whole or not at all.
    async fn save(&self, path: &Path, what: Snapshot) -> Result<(), Error> {
        let pending = PendingDir::create(path)?;
        let subject = path.display().to_string();
        self.interruptible(self.parts.components.policy.save(pending.dir(), what), "save", &subject)
            .await?;
        pending.publish()
    }
}

/// A training that has left the finite numbers cannot be mended by going on.
fn check_report(report: &StepReport) -> Result<(), ComponentError> {
    let own = [("loss", report.loss), ("gradient norm", report.grad_norm)];
    let metrics = report.metrics.iter().map(|(name, value)| (name.as_str(), *value));
    match own.into_iter().chain(metrics).find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => {
            Err(ComponentError::failed(format!("the {name} is {value}; lower train.learning_rate")))
        }
        None => Ok(()),
    }
}

fn target(response: &Response) -> Target {
    Target {
        continuation: Continuation::Tokens(response.token_ids.clone()),
        reference: Some(response.logprobs.clone()),
    }
}

/// A journal of the first `steps` records; later ones belong to work that was lost.
fn truncated_journal(path: &Path, steps: u64) -> Result<Journal<TrainRecord>, Error> {
    let mut records: Vec<TrainRecord> = read_journal(path)?;
    records.retain(|record| record.step < steps);
    if records.len() as u64 != steps {
        let reason = format!("it has {} of the {steps} steps before the training snapshot", records.len());
        return Err(Error::Damaged { path: path.to_owned(), reason });
    }
    write_atomic(path, to_lines(path, &records)?.as_bytes())?;
    Ok(Journal::open(path)?.0)
}

fn newest_snapshot(folder: &Path) -> Option<(u64, PathBuf)> {
    let paths = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let step = |path: PathBuf| {
        let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        Some((step, path))
    };
    paths.filter_map(step).max()
}

fn summary(records: &[TrainRecord], schedule: &Schedule) -> TrainSummary {
    let last_epoch: Vec<_> = records.iter().filter(|record| record.epoch + 1 == schedule.epochs).collect();
    let mut metrics = BTreeMap::new();
    for record in &last_epoch {
        for (name, value) in &record.report.metrics {
            *metrics.entry(name.clone()).or_insert(0.0) += value / last_epoch.len() as f64;
        }
    }
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    TrainSummary {
        steps: records.len() as u64,
        first_loss: records.first().map_or(0.0, |record| record.report.loss),
        last_loss: mean(last_epoch.iter().map(|record| record.report.loss).collect()),
        grad_norm: mean(records.iter().map(|record| record.report.grad_norm).collect()),
        metrics,
    }
}
