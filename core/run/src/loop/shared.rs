//! Reuse of stage results through the stage cache: lookup, replay of hits, publication of misses.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use isr_api::records::{QuarantineRecord, TrainRecord};
use isr_api::{ComponentError, Error, Event, Fingerprint, Stage};
use serde::Serialize;

use super::IterativeLoop;
use super::record::{StageItem, StageRecord};
use super::stage::StagePlan;
use super::stage_journal::StageJournal;
use crate::stage_cache::{
    self, CHECKPOINT, CacheKeyInputs, EntryMeta, Lookup, METRICS, QUARANTINE, RESULTS, StageCache,
};
use crate::store::{PendingDir, read_journal, to_lines, write_atomic};
use crate::training::Training;

impl IterativeLoop {
    /// Enables a stage cache: stages that another run has published are read from it, and computed stages are
    /// published to it. Results do not depend on it.
    #[must_use]
    pub fn with_stage_cache(mut self, cache: StageCache) -> Self {
        self.shared = Some(cache);
        self
    }

    /// Cache key of a stage with these inputs; `None` without a cache, and where an input cannot be identified.
    pub(super) fn cache_key<T: Serialize>(&self, stage: Stage, t: u32, items: &T) -> Option<Fingerprint> {
        let (cache, videos) = (self.shared.as_ref()?, self.videos_digest.get()?);
        let components = &self.parts.components;
        // Empty without an encoder, as no fingerprint is.
        let encoder = components.encoder.as_ref();
        let fingerprints = [
            self.fingerprint().ok()?.to_string(),
            components.video.fingerprint().to_string(),
            encoder.map(|encoder| encoder.fingerprint().to_string()).unwrap_or_default(),
            encoder.map(|encoder| encoder.device_key()).unwrap_or_default(),
        ];
        let seed = self.parts.seed;
        let inputs = CacheKeyInputs { stage, iteration: t, seed, fingerprints, videos, items };
        stage_cache::cache_key(cache, &inputs)
    }

    /// Looks a key up; [`Lookup::Disabled`] without a cache or a key.
    pub(super) async fn lookup(&self, key: Option<&Fingerprint>) -> Result<Lookup, Error> {
        match (&self.shared, key) {
            (Some(cache), Some(key)) => cache.lookup(key, &self.parts.cancel).await,
            _ => Ok(Lookup::Disabled),
        }
    }

    /// On a hit, records the cached outcomes and removes the places of their items.
    pub(super) fn reuse_results<I: StageItem, R: StageRecord>(
        &self,
        plan: &StagePlan<'_>,
        lookup: &Lookup,
        journal: &mut StageJournal<R>,
        items: &[I],
        places: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let Lookup::Hit(dir, EntryMeta { seconds, .. }) = lookup else { return Ok(()) };
        let mut outcomes = match outcomes::<R>(dir) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::warn!(%error, "this stage is computed anew");
                return Ok(());
            }
        };
        // A journal has no gaps, so reuse ends at the first item without a cached outcome.
        let subject = |place: usize| items[place].subject();
        let known = places.iter().take_while(|&&place| outcomes.contains_key(subject(place))).count();
        for place in places.drain(..known) {
            if let Some(outcome) = outcomes.remove(subject(place)) {
                self.record_outcome(plan, journal, subject(place), outcome)?;
            }
        }
        let StagePlan { iteration, stage, .. } = *plan;
        self.observe(&Event::StageShared { iteration, stage, seconds: *seconds });
        Ok(())
    }

    /// On a hit, copies the cached training journal and checkpoint, and loads the checkpoint. Returns whether
    /// it did.
    pub(super) async fn reuse_training(&self, t: u32, lookup: &Lookup) -> Result<bool, Error> {
        let dir = self.parts.store.iteration(t)?;
        let copied = self.processes.by_leader(async {
            let Lookup::Hit(from, EntryMeta { seconds, .. }) = lookup else { return Ok(None) };
            let copied = copied_training(from, &dir);
            let copied = copied.inspect_err(|error| tracing::warn!(%error, "this training is done anew"));
            Ok(copied.ok().map(|records| (records, *seconds)))
        });
        let Some((records, seconds)) = copied.await? else { return Ok(false) };
        let (iteration, stage, total) = (t, Stage::Train, records.len());
        self.observe(&Event::StageStarted { iteration, stage, done: 0, total });
        for TrainRecord { step, report, .. } in &records {
            self.observe(&Event::TrainStep { iteration, step: *step, report });
        }
        self.begin(t).await?;
        self.observe(&Event::StageShared { iteration, stage, seconds });
        self.observe(&Event::StageFinished { iteration, stage, seconds: 0.0, busy: None });
        Ok(true)
    }
}

/// Cached outcome of each item, by subject.
fn outcomes<R: StageRecord>(dir: &Path) -> Result<HashMap<String, Result<R, ComponentError>>, Error> {
    let results: Vec<R> = read_journal(&dir.join(RESULTS))?;
    let quarantined: Vec<QuarantineRecord> = read_journal(&dir.join(QUARANTINE))?;
    let rejected = quarantined
        .into_iter()
        .map(|record| (record.subject, Err(ComponentError::bad_input(record.reason))));
    let results = results.into_iter().map(|record| (record.subject().to_owned(), Ok(record)));
    Ok(results.chain(rejected).collect())
}

/// Copies a cached training into an iteration's directory. The checkpoint marks a finished training, so it
/// comes last.
fn copied_training(from: &Path, dir: &Path) -> Result<Vec<TrainRecord>, Error> {
    let records: Vec<TrainRecord> = read_journal(&from.join(METRICS))?;
    let journal = dir.join(METRICS);
    write_atomic(&journal, to_lines(&journal, &records)?.as_bytes())?;
    let pending = PendingDir::create(&Training::checkpoint(dir))?;
    stage_cache::link_tree(&from.join(CHECKPOINT), pending.dir())?;
    pending.publish()?;
    Ok(records)
}

/// Copies a finished training into an entry of the stage cache.
pub(super) fn copy_training(dir: &Path, into: &Path) -> Result<(), Error> {
    let copy = |name: &str| {
        let (from, to) = (dir.join(name), into.join(name));
        fs::copy(&from, &to).map_err(|error| Error::io("write", &to, error))
    };
    copy(METRICS)?;
    let checkpoint = into.join(CHECKPOINT);
    fs::create_dir(&checkpoint).map_err(|error| Error::io("create", &checkpoint, error))?;
    stage_cache::link_tree(&Training::checkpoint(dir), &checkpoint)
}
