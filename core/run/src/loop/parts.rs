//! Parts of a stage's journal: what each process of a group has done of a stage, until the leader joins them.
//!
//! Beside `responses.jsonl` stand `responses.part-0.jsonl` with results and `responses.part-0.quarantine.jsonl` with
//! rejected items, one pair of files a process, in the order in which the items were done. Whoever continues a stage,
//! with whatever number of processes, goes on from the journal and all parts.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use isr_api::records::QuarantineRecord;
use isr_api::{Error, Stage};

use super::record::StageRecord;
use crate::store::{Journal, read_journal, scan_journal};

/// The outcome of an item: its result, or why it is quarantined.
pub(super) type Outcome<R> = Result<R, QuarantineRecord>;

/// What this process does of a stage.
pub(super) struct Part<R> {
    stage: Stage,
    results: Journal<R>,
    quarantine: Journal<QuarantineRecord>,
}

impl<R: StageRecord> Part<R> {
    /// Opens the part of a process, which an earlier session may have begun.
    pub(super) fn open(dir: &Path, journal: &str, stage: Stage, rank: usize) -> Result<Self, Error> {
        let path = dir.join(format!("{}.part-{rank}.jsonl", stem(journal)));
        let quarantine = Journal::open_unread(&quarantine_of(&path))?;
        Ok(Self { stage, results: Journal::open_unread(&path)?, quarantine })
    }

    pub(super) fn append(&mut self, record: &R) -> Result<(), Error> {
        self.results.append(record)
    }

    pub(super) fn quarantine(&mut self, subject: &str, reason: &str) -> Result<(), Error> {
        let stage = self.stage.name().to_owned();
        let record = QuarantineRecord { stage, subject: subject.to_owned(), reason: reason.to_owned() };
        self.quarantine.append(&record)
    }

    /// Flushes both files to disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.results.sync()?;
        self.quarantine.sync()
    }
}

/// Returns the keys of the items that have an outcome in a part.
pub(super) fn completed<R: StageRecord>(dir: &Path, journal: &str) -> Result<HashSet<String>, Error> {
    let mut subjects = HashSet::new();
    for path in paths(dir, journal)? {
        scan_journal(&path, |record: R| {
            subjects.insert(record.subject().to_owned());
        })?;
        scan_journal(&quarantine_of(&path), |record: QuarantineRecord| {
            subjects.insert(record.subject);
        })?;
    }
    Ok(subjects)
}

/// Reads the outcomes of all parts. One of an item that a process did without knowing that another had is left out.
pub(super) fn outcomes<R: StageRecord>(
    dir: &Path,
    journal: &str,
) -> Result<Vec<(String, Outcome<R>)>, Error> {
    let (mut seen, mut outcomes) = (HashSet::new(), Vec::new());
    for path in paths(dir, journal)? {
        let results: Vec<R> = read_journal(&path)?;
        let rejected: Vec<QuarantineRecord> = read_journal(&quarantine_of(&path))?;
        let results = results.into_iter().map(|record| (record.subject().to_owned(), Ok(record)));
        let rejected = rejected.into_iter().map(|record| (record.subject.clone(), Err(record)));
        outcomes.extend(results.chain(rejected).filter(|(subject, _)| seen.insert(subject.clone())));
    }
    Ok(outcomes)
}

/// Removes all parts.
pub(super) fn remove(dir: &Path, journal: &str) -> Result<(), Error> {
    for path in paths(dir, journal)? {
        for path in [quarantine_of(&path), path] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path, error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Files of results of all parts, by name; also of those of which only the quarantine is left.
fn paths(dir: &Path, journal: &str) -> Result<Vec<PathBuf>, Error> {
    let prefix = format!("{}.part-", stem(journal));
    let entries = fs::read_dir(dir).map_err(|error| Error::io("read", dir, error))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| Error::io("read", dir, error))?.file_name();
        let rank = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        let rank = rank.and_then(|rest| rest.strip_suffix(".jsonl"));
        let rank = rank.map(|rest| rest.strip_suffix(".quarantine").unwrap_or(rest));
        if let Some(rank) = rank.filter(|rank| rank.parse::<usize>().is_ok()) {
            paths.push(dir.join(format!("{prefix}{rank}.jsonl")));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn stem(journal: &str) -> &str {
    journal.strip_suffix(".jsonl").unwrap_or(journal)
}

fn quarantine_of(results: &Path) -> PathBuf {
    results.with_extension("quarantine.jsonl")
}
