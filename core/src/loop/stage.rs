//! How a stage runs: one task an item, a bounded number in flight, results journalled in the items'
//! order, bad items quarantined, finished items never done again.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::Instant;

use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span};

use super::IterativeLoop;
use crate::error::{ComponentError, Error};
use crate::observer::{Event, Stage};
use crate::store::{Journal, QuarantineRecord};

/// A journal line that belongs to an item of its stage.
pub(super) trait StageRecord: Serialize + DeserializeOwned + Send + 'static {
    /// The item: a sample's id, or a video's key.
    fn subject(&self) -> &str;
}

/// What a stage works on.
pub(super) trait StageItem: Send + 'static {
    /// Equal to the [`StageRecord::subject`] of the item's result.
    fn subject(&self) -> String;
}

/// A stage's name, place and extent.
pub(super) struct StagePlan<'a> {
    pub(super) iteration: u32,
    pub(super) stage: Stage,
    pub(super) journal: &'a str,
    /// What the quarantined share is a share of.
    pub(super) population: usize,
}

/// The quarantine of an iteration, as far as one stage is concerned.
struct Quarantine {
    journal: Journal<QuarantineRecord>,
    here: HashMap<String, String>,
}

impl IterativeLoop {
    /// Runs what is left of a stage, and returns the results of all its items that were not
    /// quarantined, in the items' order.
    pub(super) async fn run_stage<I, R, F, W>(
        &self,
        plan: StagePlan<'_>,
        items: Vec<I>,
        work: W,
    ) -> Result<Vec<R>, Error>
    where
        I: StageItem,
        R: StageRecord,
        F: Future<Output = Result<R, ComponentError>> + Send + 'static,
        W: Fn(I) -> F,
    {
        let started = Instant::now();
        let dir = self.parts.store.iteration(plan.iteration)?;
        let (mut journal, mut results) = Journal::<R>::open(&dir.join(plan.journal))?;
        let mut quarantine = Quarantine::open(&dir, plan.stage)?;
        let finished: HashSet<String> = results.iter().map(|record| record.subject().to_owned()).collect();
        let total = items.len();
        let is_left = |item: &I| {
            let subject = item.subject();
            !finished.contains(&subject) && !quarantine.here.contains_key(&subject)
        };
        let left: Vec<I> = items.into_iter().filter(is_left).collect();
        let StagePlan { iteration, stage, .. } = plan;
        self.observe(&Event::StageStarted { iteration, stage, done: total - left.len(), total });

        let span = info_span!("stage", name = stage.name(), iteration);
        let tasks = left.into_iter().map(|item| {
            let subject = item.subject();
            let span = info_span!(parent: &span, "item", subject);
            let task = AbortOnDropHandle::new(tokio::spawn(work(item).instrument(span)));
            async move { (subject, task.await.unwrap_or_else(|error| Err(panic_error(error)))) }
        });
        let mut outcomes = futures::stream::iter(tasks).buffered(self.parts.settings.in_flight);
        while let Some((subject, outcome)) = self.next_or_cancelled(&mut outcomes).await? {
            match outcome {
                Ok(record) => {
                    journal.append(&record)?;
                    results.push(record);
                    self.observe(&Event::ItemDone { stage });
                }
                Err(ComponentError::BadInput(cause)) => {
                    let reason = cause.to_string();
                    self.observe(&Event::Quarantined { stage, subject: &subject, reason: &reason });
                    quarantine.add(stage, subject, reason)?;
                    self.check_quarantine(&plan, &quarantine)?;
                }
                Err(ComponentError::Cancelled) => return Err(Error::Cancelled),
                Err(source) => {
                    let stage = format!("iteration {iteration}, {}", stage.name());
                    return Err(Error::Component { stage, subject, source });
                }
            }
        }
        journal.sync()?;
        quarantine.journal.sync()?;
        let seconds = started.elapsed().as_secs_f64();
        self.observe(&Event::StageFinished { iteration, stage, seconds });
        Ok(results)
    }

    async fn next_or_cancelled<S: StreamExt + Unpin>(&self, stream: &mut S) -> Result<Option<S::Item>, Error> {
        tokio::select! {
            biased;
            () = self.parts.cancel.cancelled() => Err(Error::Cancelled),
            item = stream.next() => Ok(item),
        }
    }

    /// Awaits a component's call, unless the run is cancelled first.
    pub(super) async fn interruptible<T>(
        &self,
        call: impl Future<Output = Result<T, ComponentError>>,
        stage: &str,
        subject: &str,
    ) -> Result<T, Error> {
        let outcome = tokio::select! {
            biased;
            () = self.parts.cancel.cancelled() => return Err(Error::Cancelled),
            outcome = call => outcome,
        };
        let named = |source| Error::Component { stage: stage.to_owned(), subject: subject.to_owned(), source };
        outcome.map_err(named)
    }

    fn check_quarantine(&self, plan: &StagePlan<'_>, quarantine: &Quarantine) -> Result<(), Error> {
        let limit = self.parts.settings.quarantine_limit;
        let quarantined = quarantine.here.len();
        if quarantined as f64 <= limit * plan.population as f64 {
            return Ok(());
        }
        let first = quarantine.here.values().next().cloned().unwrap_or_default();
        let stage = format!("iteration {}, {}", plan.iteration, plan.stage.name());
        Err(Error::TooManyQuarantined { stage, quarantined, total: plan.population, limit, first })
    }
}

impl Quarantine {
    fn open(dir: &std::path::Path, stage: Stage) -> Result<Self, Error> {
        let (journal, lines) = Journal::<QuarantineRecord>::open(&dir.join("quarantine.jsonl"))?;
        let here = lines.into_iter().filter(|line| line.stage == stage.name());
        let here = here.map(|line| (line.subject, line.reason)).collect();
        Ok(Self { journal, here })
    }

    fn add(&mut self, stage: Stage, subject: String, reason: String) -> Result<(), Error> {
        let line = QuarantineRecord { stage: stage.name().to_owned(), subject, reason };
        self.journal.append(&line)?;
        self.here.insert(line.subject, line.reason);
        Ok(())
    }
}

fn panic_error(error: tokio::task::JoinError) -> ComponentError {
    if error.is_cancelled() {
        return ComponentError::Cancelled;
    }
    let payload: Box<dyn Any + Send> = error.into_panic();
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    ComponentError::Panicked(text.unwrap_or_else(|| "no message".to_owned()))
}
