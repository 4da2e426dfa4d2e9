//! The runner of a stage: one task per item, a bounded number of them concurrently, results journalled in the
//! items' order, rejected items quarantined. Items that have an outcome are not run again. With several processes each
//! takes items as it has room, and writes a part of the journal; the parts are joined in the items' order.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use isr_api::{ComponentError, Error, Event, Fingerprint, Stage};
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span};

use super::IterativeLoop;
use super::claims::Claims;
use super::parts::{self, Part};
use super::record::{StageItem, StageRecord};
use super::stage_journal::StageJournal;
use crate::guard::{component_error, join_error, unless_cancelled};
use crate::stage_cache::{EntryMeta, Lookup};
use crate::stopwatch::Stopwatch;
use crate::store::read_journal;
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

/// Items of a stage that have no outcome yet.
#[derive(Clone, Serialize, Deserialize)]
struct Missing {
    /// Their places in the stage's list.
    places: Vec<usize>,
    /// Whether their results go to parts, which are joined at the end: with several processes, and where an earlier
    /// session left parts.
    divided: bool,
    /// Distinguishes this run of the stage from others of the same processes.
    number: u64,
}

/// A stage that its leader has opened.
struct Opened<R> {
    journal: StageJournal<R>,
    lookup: Lookup,
    missing: Missing,
}

impl IterativeLoop {
    /// Runs the items of a stage that have no outcome yet, in whichever process has room. Returns the results of all
    /// items, in the items' order, without the quarantined ones.
    ///
    /// `work` is called when an item is started, so at most `loop.concurrency` items hold clones at a time, and no more
    /// videos than `loop.feature_cache_mb` holds.
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
        let stopwatch = Stopwatch::start(self.parts.components.policy.as_ref());
        // Nothing is sampled or judged where all pairs come from datasets.
        if items.is_empty() && self.is_offline(plan.iteration) {
            return Ok(Vec::new());
        }
        let dir = self.parts.store.iteration(plan.iteration)?;
        let mut opened = match self.processes.leads() {
            true => Some(self.open_stage::<I, R>(&plan, &dir, &items).await?),
            false => None,
        };
        let missing = self.processes.agree(opened.as_ref().map(|opened| opened.missing.clone())).await?;
        let span = info_span!("stage", name = plan.stage.name(), iteration = plan.iteration);
        let start = |item: I| {
            let subject = item.subject().to_owned();
            let span = info_span!(parent: &span, "item", subject);
            let (work, videos) = (work(item), Arc::clone(&self.videos));
            let admitted = async move {
                let _admission = videos.admit().await;
                work.await
            };
            let task = AbortOnDropHandle::new(tokio::spawn(admitted.instrument(span)));
            async move { (subject, task.await.unwrap_or_else(|error| Err(join_error(error)))) }
        };
        let mut seconds = Vec::new();
        if missing.divided {
            let told = self.work_in_parts(&plan, &dir, &missing, items, start).await?;
            // From here on all parts are on disk.
            seconds = self.processes.gather(stopwatch.seconds().0).await?;
            if let Some(opened) = &mut opened {
                self.join_parts(&plan, &dir, &mut opened.journal, told)?;
            }
        } else if let Some(opened) = &mut opened {
            self.work_in_order(&plan, &mut opened.journal, &missing, items, start).await?;
        }
        let Some(Opened { journal, lookup, .. }) = opened else {
            self.processes.meet().await?;
            return read_journal(&dir.join(plan.journal));
        };
        self.parts.store.check_present()?;
        journal.end()?;
        if missing.divided {
            parts::remove(&dir, plan.journal)?;
        }
        self.processes.meet().await?;
        let StagePlan { iteration, stage, .. } = plan;
        if seconds.len() > 1 {
            self.observe(&Event::StageDivided { iteration, stage, seconds: &seconds });
        }
        let (seconds, busy) = stopwatch.seconds();
        self.observe(&Event::StageFinished { iteration, stage, seconds, busy });
        let meta = EntryMeta { stage: stage.name().to_owned(), iteration, seconds, digest: None };
        lookup.publish(&meta, |dir| journal.copy_to(dir));
        // Read once all are there: among the allocations of the work itself they would leave memory in pieces.
        read_journal(journal.path())
    }

    /// Opens the journal, and takes over what another run has published.
    async fn open_stage<I: StageItem, R: StageRecord>(
        &self,
        plan: &StagePlan<'_>,
        dir: &Path,
        items: &[I],
    ) -> Result<Opened<R>, Error> {
        let StagePlan { iteration, stage, .. } = *plan;
        let mut journal = StageJournal::<R>::open(dir, plan.journal, stage, items)?;
        self.check_quarantine(plan, &journal)?;
        let (completed, in_parts) = (journal.completed(), parts::completed::<R>(dir, plan.journal)?);
        let is_missing =
            |item: &I| !completed.contains(item.subject()) && !in_parts.contains(item.subject());
        let mut places: Vec<usize> = (0..items.len()).filter(|&place| is_missing(&items[place])).collect();
        if let Some(&first) = places.first().filter(|_| is_before_finished_training(stage, dir)) {
            let reason = format!(
                "the lines of {} items are missing, the first of `{}`, and the training after them is finished",
                places.len(),
                items[first].subject()
            );
            return Err(Error::Damaged { path: journal.path().to_owned(), reason });
        }
        let (done, total) = (items.len() - places.len(), items.len());
        self.observe(&Event::StageStarted { iteration, stage, done, total });
        // What is taken over stands before what the parts hold.
        let may_share = !places.is_empty() && in_parts.is_empty();
        let lookup = self.lookup(plan.cache_key.as_ref().filter(|_| may_share)).await?;
        self.reuse_results(plan, &lookup, &mut journal, items, &mut places)?;
        let divided = self.processes.are_several() || !in_parts.is_empty();
        let number = self.processes.next("stages").await?;
        Ok(Opened { journal, lookup, missing: Missing { places, divided, number } })
    }

    /// Does all items, and journals them in their order.
    async fn work_in_order<I, R: StageRecord, F>(
        &self,
        plan: &StagePlan<'_>,
        journal: &mut StageJournal<R>,
        missing: &Missing,
        items: Vec<I>,
        start: impl Fn(I) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = (String, Result<R, ComponentError>)>,
    {
        let mut places = missing.places.iter().copied().peekable();
        let items = items.into_iter().enumerate();
        let items = items.filter(|(place, _)| places.next_if_eq(place).is_some());
        let tasks = items.map(|(_, item)| start(item));
        let mut outcomes = futures::stream::iter(tasks).buffered(self.parts.settings.concurrency.max(1));
        while let Some((subject, outcome)) = unless_cancelled(&self.parts.cancel, outcomes.next()).await? {
            self.record_outcome(plan, journal, &subject, outcome)?;
        }
        Ok(())
    }

    /// Does the items that fall to this process, and writes them to its part as they are done. Returns how many items'
    /// ends observers have been told of.
    async fn work_in_parts<I: StageItem, R: StageRecord, F>(
        &self,
        plan: &StagePlan<'_>,
        dir: &Path,
        missing: &Missing,
        items: Vec<I>,
        start: impl Fn(I) -> F,
    ) -> Result<u64, Error>
    where
        F: Future<Output = (String, Result<R, ComponentError>)>,
    {
        let (stage, rank) = (plan.stage, self.processes.rank());
        let mut part = Part::<R>::open(dir, plan.journal, stage, rank)?;
        let counter = format!("{}, {}", plan.name(), missing.number);
        let mut claims = Claims::new(&self.processes, counter, &items, &missing.places);
        let mut items: Vec<Option<I>> = items.into_iter().map(Some).collect();
        let (mut running, mut quarantined, mut told) = (FuturesUnordered::new(), 0, 0);
        loop {
            while running.len() < self.parts.settings.concurrency.max(1) {
                let Some(place) = claims.next(running.len()).await? else { break };
                running.extend(items[place].take().map(&start));
            }
            let Some((subject, outcome)) = unless_cancelled(&self.parts.cancel, running.next()).await?
            else {
                break;
            };
            match outcome {
                Ok(record) => {
                    part.append(&record)?;
                    let done = claims.done().await?;
                    (told..done).for_each(|_| self.observe(&Event::ItemDone { stage }));
                    told = told.max(done);
                }
                Err(ComponentError::BadInput(cause)) => {
                    let reason = cause.to_string();
                    part.quarantine(&subject, &reason)?;
                    quarantined += 1;
                    self.check_quarantined(plan, quarantined, || (subject, reason))?;
                }
                Err(source) => return Err(component_error(&plan.name(), &subject, source)),
            }
        }
        part.sync()?;
        Ok(told)
    }

    /// Appends the outcomes of all parts to the journal and the quarantine, in the items' order.
    fn join_parts<R: StageRecord>(
        &self,
        plan: &StagePlan<'_>,
        dir: &Path,
        journal: &mut StageJournal<R>,
        mut told: u64,
    ) -> Result<(), Error> {
        let completed = journal.completed();
        let outcomes = parts::outcomes::<R>(dir, plan.journal)?;
        let outcomes = outcomes.into_iter().filter(|(subject, _)| !completed.contains(subject));
        for (subject, outcome) in journal.in_order(outcomes.collect())? {
            let is_told = told > 0 && outcome.is_ok();
            told -= u64::from(is_told);
            match outcome {
                Ok(record) if is_told => journal.append(&record)?,
                Ok(record) => self.record_outcome(plan, journal, &subject, Ok(record))?,
                Err(record) => {
                    let rejected = Err(ComponentError::bad_input(record.reason));
                    self.record_outcome(plan, journal, &subject, rejected)?;
                }
            }
        }
        Ok(())
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
                journal.append(&record)?;
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
        match journal.quarantined.first() {
            Some(first) => self.check_quarantined(plan, journal.quarantined.len(), || {
                (first.subject.clone(), first.reason.clone())
            }),
            None => Ok(()),
        }
    }

    /// Checks a number of quarantined items against `loop.quarantine_limit`; `first` is one of them with its reason.
    fn check_quarantined(
        &self,
        plan: &StagePlan<'_>,
        quarantined: usize,
        first: impl FnOnce() -> (String, String),
    ) -> Result<(), Error> {
        let (limit, total) = (self.parts.settings.quarantine_limit, plan.population);
        if quarantined as f64 <= limit * total as f64 {
            return Ok(());
        }
        let (subject, reason) = first();
        let (stage, first) = (plan.name(), format!("{subject}: {reason}"));
        Err(Error::TooManyQuarantined { stage, quarantined, total, limit, first })
    }
}
