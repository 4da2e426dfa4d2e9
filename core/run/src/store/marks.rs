//! `stages.json`: what the journals of an iteration held when their stages ended, so that damage is not taken for
//! a result.
//!
//! A stage's mark is written once its journal is on disk, so a journal that differs from its mark was changed by
//! something else. Directories of versions without marks are read as they are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use isr_api::records::QuarantineRecord;
use isr_api::{Error, Fingerprint};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::journal::{each_line, parse_line, read_journal};
use super::run_dir::{read_json, write_json};

/// Name of the file in the directory of an iteration.
const FILE: &str = "stages.json";
/// Rejected items of all stages of an iteration.
const QUARANTINE: &str = "quarantine.jsonl";
/// Hexadecimal digits of a line's digest.
const DIGITS: usize = 8;

/// A digest of each line of a journal: the first 32 bits of its BLAKE3, as hexadecimal digits, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LineDigests(String);

impl LineDigests {
    /// Computes the digests of whole lines, each of which ends with a newline.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digests = Self::default();
        whole_lines(bytes).for_each(|line| digests.push(line));
        digests
    }

    /// Computes the digests of the lines of a file that end with a newline; none if there is no file.
    fn of_file(path: &Path) -> Result<Self, Error> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io("read", path, error)),
        };
        let mut digests = Self::default();
        each_line(path, &file, |_, line| {
            digests.push(line);
            Ok(())
        })?;
        Ok(digests)
    }

    /// Appends the digest of a line, without its newline.
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.0.push_str(&blake3::hash(line).to_hex()[..DIGITS]);
    }

    fn lines(&self) -> Vec<&str> {
        self.0.as_bytes().chunks(DIGITS).filter_map(|digits| std::str::from_utf8(digits).ok()).collect()
    }

    /// Describes the first difference to the lines that a stage ended with; `None` if there is none. `number` maps
    /// the index of a line to its number in the file.
    pub(crate) fn difference(&self, ended: &Self, number: impl Fn(usize) -> usize) -> Option<String> {
        let (now, then) = (self.lines(), ended.lines());
        let at = (0..now.len().max(then.len())).find(|&at| now.get(at) != then.get(at))?;
        let ended = format!("the stage ended with {} lines", then.len());
        let Some(line) = now.get(at) else {
            return Some(format!(
                "it ends after line {}, and {ended}",
                at.checked_sub(1).map_or(0, number)
            ));
        };
        let here = number(at);
        Some(match now[..at].iter().position(|earlier| earlier == line) {
            Some(first) => format!("line {here} repeats line {}, and {ended}", number(first)),
            None if at >= then.len() => format!("line {here} was added, and {ended}"),
            None if then.get(at + 1) == Some(line) => {
                format!("a line is missing before line {here}, and {ended}")
            }
            None => format!("line {here} is not the one that was written"),
        })
    }
}

/// What the files of a stage held when it ended. Stage `select` has a mark as well, for `pairs.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StageMark {
    /// Name of the journal.
    pub(crate) file: String,
    /// Digests of its lines.
    pub(crate) lines: LineDigests,
    /// Digests of the stage's lines of `quarantine.jsonl`.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) quarantine: LineDigests,
    /// Fingerprint of the policy after a training, whose weights are in `checkpoint/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<Fingerprint>,
}

fn is_empty(digests: &LineDigests) -> bool {
    digests.0.is_empty()
}

impl StageMark {
    /// The mark of a file in `dir` as it is, for a stage that quarantines nothing.
    pub(crate) fn of_file(dir: &Path, file: &str) -> Result<Self, Error> {
        let lines = LineDigests::of_file(&dir.join(file))?;
        Ok(Self { file: file.to_owned(), lines, quarantine: LineDigests::default(), policy: None })
    }
}

/// The marks of an iteration, by name of the stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StageMarks(BTreeMap<String, StageMark>);

impl StageMarks {
    /// Reads the marks in the directory of an iteration; none if there is no file.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        Ok(read_json(&dir.join(FILE))?.unwrap_or_default())
    }

    pub(crate) fn get(&self, stage: &str) -> Option<&StageMark> {
        self.0.get(stage)
    }

    /// Writes the marks of stages that have ended, beside those of others.
    pub(crate) fn add(
        dir: &Path,
        marks: impl IntoIterator<Item = (&'static str, StageMark)>,
    ) -> Result<(), Error> {
        let old = Self::read(dir)?;
        let mut new = old.clone();
        new.0.extend(marks.into_iter().map(|(stage, mark)| (stage.to_owned(), mark)));
        if new == old { Ok(()) } else { write_json(&dir.join(FILE), &new) }
    }

    /// Checks the files of a stage against its mark, if it has one.
    ///
    /// # Errors
    /// [`Error::Damaged`] with file and line.
    pub(crate) fn check(&self, dir: &Path, stage: &str) -> Result<(), Error> {
        let Some(mark) = self.get(stage) else { return Ok(()) };
        check_lines(&dir.join(&mark.file), mark)?;
        let (quarantine, numbers) = quarantine_digests(dir, stage)?;
        let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
        match quarantine.difference(&mark.quarantine, number) {
            Some(reason) => {
                let reason = format!("of stage `{stage}`, {reason}");
                Err(Error::Damaged { path: dir.join(QUARANTINE), reason })
            }
            None => Ok(()),
        }
    }

    /// Checks the files of all stages that have ended.
    pub(crate) fn check_all(&self, dir: &Path) -> Result<(), Error> {
        self.0.keys().try_for_each(|stage| self.check(dir, stage))
    }
}

/// Checks the journals of all stages of a run that have ended against what they ended with, for those who read them.
/// Stages of versions without marks are not checked.
///
/// # Errors
/// [`Error::Damaged`] with file and line.
pub fn check_journals(run: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(run) {
        Ok(entries) => entries.flatten(),
        // Whoever reads the journals says so.
        Err(_) => return Ok(()),
    };
    let is_iteration = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("iteration-"))
    };
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_iteration).collect();
    dirs.sort();
    dirs.iter().try_for_each(|dir| StageMarks::read(dir)?.check_all(dir))
}

fn check_lines(path: &Path, mark: &StageMark) -> Result<(), Error> {
    let now = LineDigests::of_file(path)?;
    match now.difference(&mark.lines, |at| at + 1) {
        Some(reason) => {
            // A line that is no JSON at all is named as such.
            read_journal::<IgnoredAny>(path)?;
            Err(Error::Damaged { path: path.to_owned(), reason })
        }
        None => Ok(()),
    }
}

/// Digests of a stage's lines of the quarantine, and their numbers in the file.
pub(crate) fn quarantine_digests(dir: &Path, stage: &str) -> Result<(LineDigests, Vec<usize>), Error> {
    let path = dir.join(QUARANTINE);
    let bytes = read_or_nothing(&path)?;
    let (mut digests, mut numbers) = (LineDigests::default(), Vec::new());
    for (index, line) in whole_lines(&bytes).enumerate() {
        let record: QuarantineRecord = parse_line(&path, index, line)?;
        if record.stage == stage {
            digests.push(line);
            numbers.push(index + 1);
        }
    }
    Ok((digests, numbers))
}

fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

fn read_or_nothing(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_difference_is_named() {
        let said = |now: &str| {
            let ended = LineDigests::of(b"a\nb\nc\n");
            LineDigests::of(now.as_bytes()).difference(&ended, |at| at + 1).unwrap_or_default()
        };
        assert_eq!(said("a\nb\nc\n"), "");
        assert_eq!(said("a\nb\nb\nc\n"), "line 3 repeats line 2, and the stage ended with 3 lines");
        assert_eq!(said("a\nc\n"), "a line is missing before line 2, and the stage ended with 3 lines");
        assert_eq!(said("a\nb\n"), "it ends after line 2, and the stage ended with 3 lines");
        assert_eq!(said(""), "it ends after line 0, and the stage ended with 3 lines");
        assert_eq!(said("a\nb\nc\nd\n"), "line 4 was added, and the stage ended with 3 lines");
        assert_eq!(said("a\nx\nc\n"), "line 2 is not the one that was written");
        assert_eq!(said("a\nb\nc\na\n"), "line 4 repeats line 1, and the stage ended with 3 lines");
    }
}
