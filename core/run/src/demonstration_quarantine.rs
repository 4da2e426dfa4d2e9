//! The quarantine of a supervised training: rows that cannot be used, and demonstrations whose video cannot be read.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use isr_api::records::QuarantineRecord;
use isr_api::{Error, UnusableRow};

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

    /// Adds the rows of a dataset that cannot be used, beside the `used` demonstrations of the others.
    ///
    /// # Errors
    /// [`Error::TooManyQuarantined`].
    pub(crate) fn add_rows(&self, rows: &[UnusableRow], used: u64) -> Result<(), Error> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = used + rows.len() as u64;
        let record = |row: &UnusableRow| (ROWS, row.origin.clone(), row.reason.clone());
        self.add_all(rows.iter().map(record).collect())
    }

    /// Adds a demonstration that training cannot use.
    ///
    /// # Errors
    /// [`Error::TooManyQuarantined`].
    pub(crate) fn add(&self, id: String, reason: String) -> Result<(), Error> {
        self.add_all(vec![("train", id, reason)])
    }

    fn add_all(&self, found: Vec<(&str, String, String)>) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, total) = &mut *state;
        let before = records.len();
        for (stage, subject, reason) in found {
            // A training that was cut repeats steps, and reads its rows again.
            if !records.iter().any(|known| known.stage == stage && known.subject == subject) {
                records.push(QuarantineRecord { stage: stage.to_owned(), subject, reason });
            }
        }
        let Some(first) = records.first() else { return Ok(()) };
        let first = format!("{}: {}", first.subject, first.reason);
        if records.len() > before {
            write_atomic(&self.path, to_lines(&self.path, records)?.as_bytes())?;
            let path = self.path.display();
            tracing::warn!(
                "{} demonstrations are quarantined, the first: {first} (all in {path})",
                records.len()
            );
        }
        let (quarantined, total, limit) = (records.len(), *total as usize, self.limit);
        match quarantined as f64 > limit * total as f64 {
            true => {
                let stage = self.stage.to_owned();
                Err(Error::TooManyQuarantined { stage, quarantined, total, limit, first })
            }
            false => Ok(()),
        }
    }
}
