//! How a stage runs: one task an item, a bounded number in flight, results journalled in the items'
//! order, bad items quarantined, settled items never done again.

use std::future::Future;
use std::time::Instant;

use futures::StreamExt;
use isr_api::{ComponentError, Error, Event, Fingerprint, Stage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span};

use super::IterativeLoop;
use super::ledger::Ledger;
use crate::guard::{component_error, join_error, unless_cancelled};
use crate::stage_cache::Made;

/// A journal line that belongs to an item of its stage.
pub(super) trait StageRecord: Serialize + DeserializeOwned + Send + 'static {
    /// The item: a sample's id, or a video's key.
    fn subject(&self) -> &str;
}

/// What a stage works on.
pub(super) trait StageItem {
    /// Equal to the [`StageRecord::subject`] of the item's result.
    fn subject(&self) -> &str;
}

impl<I: StageItem> StageItem for &I {
    fn subject(&self) -> &str {
        (*self).subject()
    }
}

/// A stage's name, place and extent.
pub(super) struct StagePlan<'a> {
    pub(super) iteration: u32,
    pub(super) stage: Stage,
    pub(super) journal: &'a str,
    /// What the quarantined share is a share of.
    pub(super) population: usize,
    /// Its name among stages that runs share; `None` where it is not shared.
    pub(super) shared: Option<Fingerprint>,
}

impl StagePlan<'_> {
    fn name(&self) -> String {
        in_iteration(self.iteration, self.stage.name())
    }
}

/// A stage's name in errors.
pub(super) fn in_iteration(t: u32, stage: &str) -> String {
    format!("iteration {t}, {stage}")
}

impl IterativeLoop {
    /// Runs what is left of a stage, and returns the results of all its items that were not
    /// quarantined, in the items' order.
    ///
    /// `work` is called when an item's turn comes, so what it clones exists once an item in flight.
    pub(super) async fn run_stage<I, R, F, W>(
        &self,
        plan: StagePlan<'_>,
        mut items: Vec<I>,
        work: W,
    ) -> Result<Vec<R>, Error>
    where
        I: StageItem,
        R: StageRecord,
        F: Future<Output = Result<R, ComponentError>> + Send + 'static,
        W: Fn(I) -> F,
    {
        let started = Instant::now();
        let StagePlan { iteration, stage, .. } = plan;
        let dir = self.parts.store.iteration(iteration)?;
        let mut ledger = Ledger::<R>::open(&dir, plan.journal, stage)?;
        self.check_quarantine(&plan, &ledger)?;
        let (settled, total) = (ledger.settled(), items.len());
        items.retain(|item| !settled.contains(item.subject()));
        self.observe(&Event::StageStarted { iteration, stage, done: total - items.len(), total });
        let turn = self.turn(plan.shared.as_ref().filter(|_| !items.is_empty())).await?;
        self.take_over(&plan, &turn, &mut ledger, &mut items)?;

        let span = info_span!("stage", name = stage.name(), iteration);
        let tasks = items.into_iter().map(|item| {
            let subject = item.subject().to_owned();
            let span = info_span!(parent: &span, "item", subject);
            let task = AbortOnDropHandle::new(tokio::spawn(work(item).instrument(span)));
            async move { (subject, task.await.unwrap_or_else(|error| Err(join_error(error)))) }
        });
        let mut outcomes = futures::stream::iter(tasks).buffered(self.parts.settings.concurrency.max(1));
        while let Some((subject, outcome)) = unless_cancelled(&self.parts.cancel, outcomes.next()).await? {
            self.settle(&plan, &mut ledger, &subject, outcome)?;
        }
        ledger.sync()?;
        let seconds = started.elapsed().as_secs_f64();
        self.observe(&Event::StageFinished { iteration, stage, seconds });
        turn.leave(&Made { stage: stage.name().to_owned(), iteration, seconds }, |dir| ledger.copy_to(dir));
        Ok(ledger.results)
    }

    pub(super) fn settle<R: StageRecord>(
        &self,
        plan: &StagePlan<'_>,
        ledger: &mut Ledger<R>,
        subject: &str,
        outcome: Result<R, ComponentError>,
    ) -> Result<(), Error> {
        let stage = plan.stage;
        match outcome {
            Ok(record) => {
                ledger.finish(record)?;
                self.observe(&Event::ItemDone { stage });
                Ok(())
            }
            Err(ComponentError::BadInput(cause)) => {
                let reason = cause.to_string();
                ledger.quarantine(subject, &reason)?;
                self.observe(&Event::Quarantined { stage, subject, reason: &reason });
                self.check_quarantine(plan, ledger)
            }
            Err(source) => Err(component_error(&plan.name(), subject, source)),
        }
    }

    fn check_quarantine<R>(&self, plan: &StagePlan<'_>, ledger: &Ledger<R>) -> Result<(), Error> {
        let limit = self.parts.settings.quarantine_limit;
        let (quarantined, total) = (ledger.quarantined.len(), plan.population);
        let Some(first) = ledger.quarantined.first().filter(|_| quarantined as f64 > limit * total as f64)
        else {
            return Ok(());
        };
        let first = format!("{}: {}", first.subject, first.reason);
        Err(Error::TooManyQuarantined { stage: plan.name(), quarantined, total, limit, first })
    }
}
