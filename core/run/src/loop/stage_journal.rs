//! Outcomes of a stage on disk: results in the stage's journal, rejected items in the iteration's quarantine.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use isr_api::records::QuarantineRecord;
use isr_api::{Error, Stage};

use super::parts::Outcome;
use super::record::{StageItem, StageRecord};
use crate::stage_cache::{QUARANTINE, RESULTS};
use crate::store::{Journal, StageMark, StageMarks, quarantine_digests, to_lines, write_atomic};

/// The journal of one stage with its part of the quarantine, both in the items' order.
pub(super) struct StageJournal<R> {
    dir: PathBuf,
    file: String,
    journal: Journal<R>,
    quarantine: Journal<QuarantineRecord>,
    stage: Stage,
    /// Places of the stage's items, by subject.
    places: HashMap<String, usize>,
    /// Place of the last item with a result.
    last: Option<usize>,
    /// Keys of the items with a result.
    finished: HashSet<String>,
    pub(super) quarantined: Vec<QuarantineRecord>,
}

impl<R: StageRecord> StageJournal<R> {
    /// Opens both files, and reads the outcomes of earlier sessions.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the files of a stage that has ended are not what it ended with; where an item has two
    /// outcomes; and where results are in another order than the items.
    pub(super) fn open<I: StageItem>(
        dir: &Path,
        file: &str,
        stage: Stage,
        items: &[I],
    ) -> Result<Self, Error> {
        // Before an unfinished line is cut off: a stage that has ended has none.
        StageMarks::read(dir)?.check(dir, stage.name())?;
        let mut subjects = Vec::new();
        let take = |record: R| subjects.push(record.subject().to_owned());
        let journal = Journal::open_with(&dir.join(file), take)?;
        let (quarantine, mut quarantined) = Journal::open(&dir.join("quarantine.jsonl"))?;
        quarantined.retain(|record: &QuarantineRecord| record.stage == stage.name());
        let places = items.iter().enumerate().map(|(place, item)| (item.subject().to_owned(), place));
        let (dir, file, places) = (dir.to_owned(), file.to_owned(), places.collect());
        let (last, finished) = (None, HashSet::new());
        let mut opened =
            Self { dir, file, journal, quarantine, stage, places, last, finished, quarantined };
        opened.check_subjects(&subjects)?;
        opened.finished.extend(subjects);
        Ok(opened)
    }

    /// Rejects results of one item twice, in another order than that of the items, or of other items.
    fn check_subjects(&mut self, subjects: &[String]) -> Result<(), Error> {
        let mut lines: HashMap<&str, usize> = HashMap::new();
        let damaged = |path: &Path, reason| Err(Error::Damaged { path: path.to_owned(), reason });
        for (line, subject) in (1..).zip(subjects.iter().map(String::as_str)) {
            if let Some(first) = lines.insert(subject, line) {
                let reason = format!("line {line} is a second result of `{subject}`, after line {first}");
                return damaged(self.journal.path(), reason);
            }
            match self.places.get(subject) {
                Some(place) if self.last.is_some_and(|last| last > *place) => {
                    let reason = format!("line {line}, of `{subject}`, should stand further up");
                    return damaged(self.journal.path(), reason);
                }
                Some(place) => self.last = Some(*place),
                None if self.has_fixed_items() => {
                    let reason = format!("line {line} is of `{subject}`, which is not among its items");
                    return damaged(self.journal.path(), reason);
                }
                None => {}
            }
        }
        for record in &self.quarantined {
            let subject = record.subject.as_str();
            if let Some(line) = lines.insert(subject, 0) {
                let also = if line > 0 { "and has a result as well" } else { "twice" };
                let reason = format!("`{subject}` is quarantined by stage `{}` {also}", record.stage);
                return damaged(self.quarantine.path(), reason);
            }
        }
        Ok(())
    }

    /// Whether the stage's items are the same in each session. Held-out samples depend on `loop.iterations`, which may
    /// change; the pairs to score on the version of the selection.
    fn has_fixed_items(&self) -> bool {
        !matches!(self.stage, Stage::Evaluate | Stage::Reference)
    }

    /// Keys of the items that have an outcome: a result, or a place in the quarantine.
    pub(super) fn completed(&self) -> HashSet<String> {
        let quarantined = self.quarantined.iter().map(|record| &record.subject);
        self.finished.iter().chain(quarantined).cloned().collect()
    }

    /// Arranges outcomes of parts in the items' order.
    ///
    /// # Errors
    /// [`Error::Damaged`] for an outcome of something that is not among the stage's items.
    pub(super) fn in_order(
        &self,
        outcomes: Vec<(String, Outcome<R>)>,
    ) -> Result<Vec<(String, Outcome<R>)>, Error> {
        let mut placed = Vec::with_capacity(outcomes.len());
        for (subject, outcome) in outcomes {
            match self.places.get(&subject) {
                Some(place) => placed.push((*place, subject, outcome)),
                None if self.has_fixed_items() => {
                    let reason = format!("a part of it has `{subject}`, which is not among its items");
                    return Err(Error::Damaged { path: self.path().to_owned(), reason });
                }
                None => {}
            }
        }
        placed.sort_by_key(|(place, ..)| *place);
        Ok(placed.into_iter().map(|(_, subject, outcome)| (subject, outcome)).collect())
    }

    /// Appends a result.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a result that should stand before another one, whose line was therefore lost.
    pub(super) fn append(&mut self, record: &R) -> Result<(), Error> {
        let place = self.places.get(record.subject()).copied();
        if place.is_some() && place < self.last {
            let reason = format!("the line of `{}` is missing, and later ones are there", record.subject());
            return Err(Error::Damaged { path: self.journal.path().to_owned(), reason });
        }
        self.last = self.last.max(place);
        self.journal.append(record)?;
        self.finished.insert(record.subject().to_owned());
        Ok(())
    }

    /// Appends an item to the quarantine.
    pub(super) fn quarantine(&mut self, subject: &str, reason: &str) -> Result<(), Error> {
        let stage = self.stage.name().to_owned();
        let record = QuarantineRecord { stage, subject: subject.to_owned(), reason: reason.to_owned() };
        self.quarantine.append(&record)?;
        self.quarantined.push(record);
        Ok(())
    }

    /// Writes all outcomes into an entry of the stage cache.
    pub(super) fn copy_to(&self, dir: &Path) -> Result<(), Error> {
        let (results, quarantine) = (dir.join(RESULTS), dir.join(QUARANTINE));
        fs::copy(self.path(), &results).map_err(|error| Error::io("write", &results, error))?;
        write_atomic(&quarantine, to_lines(&quarantine, &self.quarantined)?.as_bytes())
    }

    /// Path of the journal.
    pub(super) fn path(&self) -> &Path {
        self.journal.path()
    }

    /// Flushes both files to disk, and marks the stage as ended.
    pub(super) fn end(&self) -> Result<(), Error> {
        self.journal.sync()?;
        self.quarantine.sync()?;
        let stage = self.stage.name();
        let mark = StageMark {
            file: self.file.clone(),
            lines: self.journal.digests().clone(),
            quarantine: quarantine_digests(&self.dir, stage)?.0,
            policy: None,
        };
        StageMarks::add(&self.dir, [(stage, mark)])
    }
}
