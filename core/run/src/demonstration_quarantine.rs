//! The quarantine of a supervised training: rows that cannot be used, and demonstrations whose video cannot be read.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use isr_api::records::QuarantineRecord;
use isr_api::{Error, Stage, UnusableRow};

use crate::store::{read_journal, to_lines, write_atomic};

/// Stage of a dataset's rows in records.
const ROWS: &str = "demonstrations";

/// `quarantine.jsonl` in the directory of a training, with a limit on its size. There is no file while it is empty.
pub(crate) struct DemonstrationQuarantine {
    path: PathBuf,
    stage: &'static str,
    limit: f64,
    /// Records, in the order of their addition, and the number of rows and demonstrations.
    state: Mutex<(Vec<QuarantineRecord>, u64)>,
}

impl DemonstrationQuarantine {
    /// Reads what earlier sessions quarantined. `stage` names the training in errors, `limit` is the share that may be
    /// quarantined.
    pub(crate) fn open(dir: &Path, stage: &'static str, limit: f64) -> Result<Self, Error> {
        let path = dir.join("quarantine.jsonl");
        let records = read_journal(&path)?;
        Ok(Self { path, stage, limit, state: Mutex::new((records, 0)) })
    }

    /// Sets the rows of a dataset that cannot be used, beside the `used` demonstrations of the others. They come first.
    ///
    /// # Errors
    /// [`Error::TooManyQuarantined`].
    pub(crate) fn set_rows(&self, rows: &[UnusableRow], used: u64) -> Result<(), Error> {
        self.change(|records, total| {
            *total = used + rows.len() as u64;
            let record = |row: &UnusableRow| QuarantineRecord {
                stage: ROWS.to_owned(),
                subject: row.origin.clone(),
                reason: row.reason.clone(),
            };
            records.retain(|record| record.stage != ROWS);
            records.splice(0..0, rows.iter().map(record));
        })
    }

    /// Adds a demonstration that training cannot use. A training that was cut repeats steps: it is added once.
    ///
    /// # Errors
    /// [`Error::TooManyQuarantined`].
    pub(crate) fn add(&self, id: String, reason: String) -> Result<(), Error> {
        let stage = Stage::Train.name();
        self.change(|records, _| {
            if !records.iter().any(|known| known.stage == stage && known.subject == id) {
                records.push(QuarantineRecord { stage: stage.to_owned(), subject: id, reason });
            }
        })
    }

    /// Changes the records, writes them where they are others, and checks their number.
    fn change(&self, change: impl FnOnce(&mut Vec<QuarantineRecord>, &mut u64)) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, total) = &mut *state;
        let before = records.clone();
        change(records, total);
        let is_new = *records != before;
        if is_new {
            write_atomic(&self.path, to_lines(&self.path, records)?.as_bytes())?;
        }
        let Some(first) = records.first() else { return Ok(()) };
        let first = format!("{}: {}", first.subject, first.reason);
        let (quarantined, total, limit) = (records.len(), *total as usize, self.limit);
        if quarantined as f64 > limit * total as f64 {
            let stage = self.stage.to_owned();
            return Err(Error::TooManyQuarantined { stage, quarantined, total, limit, first });
        }
        if is_new {
            let path = self.path.display();
            tracing::warn!(
                "{quarantined} demonstrations are quarantined, the first: {first} (all in {path})"
            );
        }
        Ok(())
    }
}
