//! Stages taken over from other runs, and left to them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use isr_api::records::{QuarantineRecord, TrainRecord};
use isr_api::{ComponentError, Error, Event, Fingerprint, Stage};
use serde::Serialize;

use super::IterativeLoop;
use super::ledger::Ledger;
use super::stage::{StageItem, StagePlan, StageRecord};
use crate::stage_cache::{
    self, CHECKPOINT, Ingredients, METRICS, Made, QUARANTINE, RESULTS, StageCache, Turn,
};
use crate::store::{PendingDir, read_journal, to_lines, write_atomic};
use crate::training::Training;

impl IterativeLoop {
    /// A loop that takes over stages which other runs left in a cache, and leaves its own. Results do not depend
    /// on it.
    #[must_use]
    pub fn with_stage_cache(mut self, cache: StageCache) -> Self {
        self.shared = Some(cache);
        self
    }

    /// The name of a stage among those that runs share; `None` without a cache.
    pub(super) fn shared_name<T: Serialize>(
        &self,
        stage: Stage,
        t: u32,
        inputs: &T,
    ) -> Option<Fingerprint> {
        let cache = self.shared.as_ref()?;
        let components = &self.parts.components;
        let made_with = [
            self.frozen.fingerprint().to_string(),
            components.video.fingerprint().to_string(),
            components.encoder.fingerprint().to_string(),
            components.encoder.device_key(),
        ];
        stage_cache::name(
            cache,
            &Ingredients { stage, iteration: t, seed: self.parts.seed, made_with, inputs },
        )
    }

    pub(super) async fn turn(&self, name: Option<&Fingerprint>) -> Result<Turn, Error> {
        match (&self.shared, name) {
            (Some(cache), Some(name)) => cache.turn(name, &self.parts.cancel).await,
            _ => Ok(Turn::Alone),
        }
    }

    /// Settles the items of which another run left the outcome; the rest stay among `items`.
    pub(super) fn take_over<I: StageItem, R: StageRecord>(
        &self,
        plan: &StagePlan<'_>,
        turn: &Turn,
        ledger: &mut Ledger<R>,
        items: &mut Vec<I>,
    ) -> Result<(), Error> {
        let Turn::Taken(dir, Made { seconds, .. }) = turn else { return Ok(()) };
        let mut outcomes = match outcomes::<R>(dir) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::warn!(%error, "this stage is computed anew");
                return Ok(());
            }
        };
        // In the items' order, as far as the outcomes are known: journals know no gaps.
        let known = items.iter().take_while(|item| outcomes.contains_key(item.subject())).count();
        for item in items.drain(..known) {
            if let Some(outcome) = outcomes.remove(item.subject()) {
                self.settle(plan, ledger, item.subject(), outcome)?;
            }
        }
        let StagePlan { iteration, stage, .. } = *plan;
        self.observe(&Event::StageShared { iteration, stage, seconds: *seconds });
        Ok(())
    }

    /// Takes over the training that another run left, with its checkpoint; says whether that was possible.
    pub(super) async fn take_over_training(&self, t: u32, turn: &Turn) -> Result<bool, Error> {
        let Turn::Taken(from, Made { seconds, .. }) = turn else { return Ok(false) };
        let dir = self.parts.store.iteration(t)?;
        let records = match copied_training(from, &dir) {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%error, "this training is done anew");
                return Ok(false);
            }
        };
        let (iteration, stage, total) = (t, Stage::Train, records.len());
        self.observe(&Event::StageStarted { iteration, stage, done: 0, total });
        for TrainRecord { step, report, .. } in &records {
            self.observe(&Event::TrainStep { iteration, step: *step, report });
        }
        self.begin(t).await?;
        self.observe(&Event::StageShared { iteration, stage, seconds: *seconds });
        self.observe(&Event::StageFinished { iteration, stage, seconds: 0.0 });
        Ok(true)
    }
}

/// What became of each item, by subject.
fn outcomes<R: StageRecord>(dir: &Path) -> Result<HashMap<String, Result<R, ComponentError>>, Error> {
    let results: Vec<R> = read_journal(&dir.join(RESULTS))?;
    let quarantined: Vec<QuarantineRecord> = read_journal(&dir.join(QUARANTINE))?;
    let given_up = quarantined
        .into_iter()
        .map(|record| (record.subject, Err(ComponentError::bad_input(record.reason))));
    let results = results.into_iter().map(|record| (record.subject().to_owned(), Ok(record)));
    Ok(results.chain(given_up).collect())
}

/// Brings a training's files into an iteration; the checkpoint, which says that it is finished, last.
fn copied_training(from: &Path, dir: &Path) -> Result<Vec<TrainRecord>, Error> {
    let records: Vec<TrainRecord> = read_journal(&from.join(METRICS))?;
    let journal = dir.join(METRICS);
    write_atomic(&journal, to_lines(&journal, &records)?.as_bytes())?;
    let pending = PendingDir::create(&Training::checkpoint(dir))?;
    stage_cache::link_tree(&from.join(CHECKPOINT), pending.dir())?;
    pending.publish()?;
    Ok(records)
}

/// Copies a finished training's files into a folder of shared stages.
pub(super) fn leave_training(dir: &Path, into: &Path) -> Result<(), Error> {
    let copy = |name: &str| {
        let (from, to) = (dir.join(name), into.join(name));
        fs::copy(&from, &to).map_err(|error| Error::io("write", &to, error))
    };
    copy(METRICS)?;
    let checkpoint = into.join(CHECKPOINT);
    fs::create_dir(&checkpoint).map_err(|error| Error::io("create", &checkpoint, error))?;
    stage_cache::link_tree(&Training::checkpoint(dir), &checkpoint)
}
