//! Outcomes of a stage on disk: results in the stage's journal, rejected items in the iteration's quarantine.

use std::collections::HashSet;
use std::path::Path;

use isr_api::records::QuarantineRecord;
use isr_api::{Error, Stage};

use super::record::StageRecord;
use crate::stage_cache::{QUARANTINE, RESULTS};
use crate::store::{Journal, to_lines, write_atomic};

/// The journal of one stage with its part of the quarantine, both in the items' order.
pub(super) struct StageJournal<R> {
    journal: Journal<R>,
    quarantine: Journal<QuarantineRecord>,
    stage: Stage,
    pub(super) results: Vec<R>,
    pub(super) quarantined: Vec<QuarantineRecord>,
}

impl<R: StageRecord> StageJournal<R> {
    /// Opens both files, and reads the outcomes of earlier sessions.
    pub(super) fn open(dir: &Path, journal: &str, stage: Stage) -> Result<Self, Error> {
        let (journal, results) = Journal::open(&dir.join(journal))?;
        let (quarantine, mut quarantined) = Journal::open(&dir.join("quarantine.jsonl"))?;
        quarantined.retain(|record: &QuarantineRecord| record.stage == stage.name());
        Ok(Self { journal, quarantine, stage, results, quarantined })
    }

    /// Keys of the items that have an outcome: a result, or a place in the quarantine.
    pub(super) fn completed(&self) -> HashSet<String> {
        let finished = self.results.iter().map(StageRecord::subject);
        let quarantined = self.quarantined.iter().map(|record| record.subject.as_str());
        finished.chain(quarantined).map(str::to_owned).collect()
    }

    /// Appends a result.
    pub(super) fn append(&mut self, record: R) -> Result<(), Error> {
        self.journal.append(&record)?;
        self.results.push(record);
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
        write_atomic(&results, to_lines(&results, &self.results)?.as_bytes())?;
        write_atomic(&quarantine, to_lines(&quarantine, &self.quarantined)?.as_bytes())
    }

    /// Flushes both files to disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.journal.sync()?;
        self.quarantine.sync()
    }
}
