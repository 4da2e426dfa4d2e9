//! The lines of journals, with as much of them as a report shows.
//!
//! Field names are those of [`isr_run::store`]; long arrays that the page only counts (token ids) or
//! never shows (log-probs) are not kept, so that a journal of gigabytes can be read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use isr_api::SampleId;
use isr_run::store::CountedResponse;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::report::error::ReportError;

/// A line of `responses.jsonl`: [`isr_api::records::ResponseRecord`].
#[derive(Debug, Deserialize)]
pub(crate) struct ResponseLine {
    pub(crate) sample: SampleId,
    pub(crate) video: String,
    pub(crate) instruction: String,
    pub(crate) responses: Vec<CountedResponse>,
}

/// A line of `pairs.jsonl`: [`isr_api::records::PairRecord`].
#[derive(Debug, Deserialize)]
pub(crate) struct PairLine {
    pub(crate) id: SampleId,
    pub(crate) chosen_index: usize,
    pub(crate) rejected_index: usize,
}

/// A line of `metrics.jsonl`: [`isr_api::records::TrainRecord`]. A diverged run has null for figures
/// that are no numbers; those are the runs one wants to look at.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StepLine {
    pub(crate) epoch: u64,
    pub(crate) loss: Option<f64>,
    #[serde(default)]
    pub(crate) metrics: BTreeMap<String, Option<f64>>,
}

/// A line of `evaluation.jsonl`: [`isr_api::records::AnswerRecord`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HeldOutLine {
    pub(crate) sample: SampleId,
    pub(crate) video: String,
    pub(crate) instruction: String,
    pub(crate) greedy: CountedResponse,
    pub(crate) greedy_metrics: BTreeMap<String, Option<f64>>,
}

/// Hands every line of a journal to `take`; returns how many there were. An absent file has none; a
/// last line without its newline that does not parse was cut off and is left out.
pub(crate) fn for_each_line<T: DeserializeOwned>(
    path: &Path,
    mut take: impl FnMut(T),
) -> Result<usize, ReportError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(ReportError::io("read", path, error)),
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    let (mut number, mut taken) = (0, 0);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|error| ReportError::io("read", path, error))?;
        if line.is_empty() {
            return Ok(taken);
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(value) => take(value),
            Err(_) if line.last() != Some(&b'\n') => return Ok(taken),
            Err(error) => return Err(ReportError::damaged(path, number, in_line(&error))),
        }
        taken += 1;
    }
}

/// All lines of a journal.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReportError> {
    let mut lines = Vec::new();
    for_each_line(path, |line| lines.push(line))?;
    Ok(lines)
}

/// A parser's message with the column only: the line that it counts is always the first.
fn in_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((reason, _)) => format!("{reason} at column {}", error.column()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lines_of(text: &[u8]) -> Result<Vec<BTreeMap<String, u32>>, ReportError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        fs::write(&path, text).unwrap();
        read_lines(&path)
    }

    #[test]
    fn an_absent_journal_has_no_lines() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_lines::<u32>(&dir.path().join("none.jsonl")).unwrap().is_empty());
    }

    #[test]
    fn a_cut_last_line_is_left_out_and_a_whole_one_without_newline_is_read() {
        assert_eq!(lines_of(b"{\"a\":1}\n{\"a\":").unwrap().len(), 1);
        assert_eq!(lines_of(b"{\"a\":1}\n{\"\xc3").unwrap().len(), 1);
        assert_eq!(lines_of(b"{\"a\":1}\n\n{\"a\":2}").unwrap().len(), 2);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let error = lines_of(b"{\"a\":1}\n{\"a\":\n{\"a\":2}\n").unwrap_err().to_string();
        assert!(error.contains("journal.jsonl:2 is damaged"), "{error}");
        let error = lines_of(b"{\"a\":1}\n{\"a\":\"x\"}\n").unwrap_err().to_string();
        assert!(error.contains("expected u32 at column 8"), "{error}");
    }
}
