//! The runner of a stage: one task per item, a bounded number of them concurrently, results journalled in the
//! items' order, rejected items quarantined. Items that have an outcome are not run again.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use isr_api::{ComponentError, Error, Event, Fingerprint, Stage};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span};

use super::IterativeLoop;
use super::record::{StageItem, StageRecord};
use super::stage_journal::StageJournal;
use crate::guard::{component_error, join_error, unless_cancelled};
use crate::stage_cache::EntryMeta;
use crate::stopwatch::Stopwatch;
use crate::training::Training;

/// Which stage runs, and where its results go.
pub(super) struct StagePlan<'a> {
    pub(super) iteration: u32,
    pub(super) stage: Stage,
    /// File name of the journal in the iteration's directory.
    pub(super) journal: &'a str,
    /// Denominator of the quarantined share, which `loop.quarantine_limit` bounds.
    pub(super) population: usize,
    /// Key in the stage cache; `None` bypasses the cache.
    pub(super) cache_key: Option<Fingerprint>,
}

impl StagePlan<'_> {
    fn name(&self) -> String {
        in_iteration(self.iteration, self.stage.name())
    }
}

/// Name of a stage in error messages: `iteration 2, judge`.
pub(super) fn in_iteration(t: u32, stage: &str) -> String {
    format!("iteration {t}, {stage}")
}

/// Whether a stage's results would now come from weights that were trained on its earlier results.
fn is_before_finished_training(stage: Stage, dir: &Path) -> bool {
    stage != Stage::Evaluate && Training::checkpoint(dir).exists()
}

impl IterativeLoop {
    /// Runs the items of a stage that have no outcome yet. Returns the results of all items, in the items'
    /// order, without the quarantined ones.
    ///
    /// `work` is called when an item is started, so at most `loop.concurrency` items hold clones at a time, and no more
    /// videos than `loop.feature_cache_mb` holds.
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
        let stopwatch = Stopwatch::start(self.parts.components.policy.as_ref());
        let StagePlan { iteration, stage, .. } = plan;
        // Nothing is sampled or judged where all pairs come from datasets.
        if items.is_empty() && self.is_offline(iteration) {
            return Ok(Vec::new());
        }
        let dir = self.parts.store.iteration(iteration)?;
        let mut journal = StageJournal::<R>::open(&dir, plan.journal, stage, &items)?;
        self.check_quarantine(&plan, &journal)?;
        let (completed, total) = (journal.completed(), items.len());
        items.retain(|item| !completed.contains(item.subject()));
        if let Some(item) = items.first().filter(|_| is_before_finished_training(stage, &dir)) {
            let reason = format!(
                "the lines of {} items are missing, the first of `{}`, and the training after them is finished",
                items.len(),
                item.subject()
            );
            return Err(Error::Damaged { path: journal.path().to_owned(), reason });
        }
        self.observe(&Event::StageStarted { iteration, stage, done: total - items.len(), total });
        let lookup = self.lookup(plan.cache_key.as_ref().filter(|_| !items.is_empty())).await?;
        self.reuse_results(&plan, &lookup, &mut journal, &mut items)?;

        let span = info_span!("stage", name = stage.name(), iteration);
        let tasks = items.into_iter().map(|item| {
            let subject = item.subject().to_owned();
            let span = info_span!(parent: &span, "item", subject);
            let (work, videos) = (work(item), Arc::clone(&self.videos));
            let admitted = async move {
                let _admission = videos.admit().await;
                work.await
            };
            let task = AbortOnDropHandle::new(tokio::spawn(admitted.instrument(span)));
            async move { (subject, task.await.unwrap_or_else(|error| Err(join_error(error)))) }
        });
        let mut outcomes = futures::stream::iter(tasks).buffered(self.parts.settings.concurrency.max(1));
        while let Some((subject, outcome)) = unless_cancelled(&self.parts.cancel, outcomes.next()).await? {
            self.record_outcome(&plan, &mut journal, &subject, outcome)?;
        }
        self.parts.store.check_present()?;
        journal.end()?;
        let (seconds, busy) = stopwatch.seconds();
        self.observe(&Event::StageFinished { iteration, stage, seconds, busy });
        let meta = EntryMeta { stage: stage.name().to_owned(), iteration, seconds, digest: None };
        lookup.publish(&meta, |dir| journal.copy_to(dir));
        Ok(journal.results)
    }

    /// Journals a result or quarantines the item; any other error stops the run.
    pub(super) fn record_outcome<R: StageRecord>(
        &self,
        plan: &StagePlan<'_>,
        journal: &mut StageJournal<R>,
        subject: &str,
        outcome: Result<R, ComponentError>,
    ) -> Result<(), Error> {
        let stage = plan.stage;
        match outcome {
            Ok(record) => {
                journal.append(record)?;
                self.observe(&Event::ItemDone { stage });
                Ok(())
            }
            Err(ComponentError::BadInput(cause)) => {
                let reason = cause.to_string();
                journal.quarantine(subject, &reason)?;
                self.observe(&Event::Quarantined { stage, subject, reason: &reason });
                self.check_quarantine(plan, journal)
            }
            Err(source) => Err(component_error(&plan.name(), subject, source)),
        }
    }

    fn check_quarantine<R>(&self, plan: &StagePlan<'_>, journal: &StageJournal<R>) -> Result<(), Error> {
        let limit = self.parts.settings.quarantine_limit;
        let (quarantined, total) = (journal.quarantined.len(), plan.population);
        let Some(first) = journal.quarantined.first().filter(|_| quarantined as f64 > limit * total as f64)
        else {
            return Ok(());
        };
        let first = format!("{}: {}", first.subject, first.reason);
        Err(Error::TooManyQuarantined { stage: plan.name(), quarantined, total, limit, first })
    }
}
