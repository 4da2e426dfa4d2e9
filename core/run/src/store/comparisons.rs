//! The pairs of responses that a run compares.

use std::collections::HashMap;
use std::path::Path;

use isr_api::Error;
use isr_api::records::{ResponseRecord, VerdictRecord};

use super::{first_difference, iteration_dir, read_journal};

/// Two responses to one sample, as texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Id of the sample.
    pub sample: String,
    /// Its video, as [`isr_api::video_key`] names it.
    pub video: String,
    /// The instruction.
    pub instruction: String,
    /// Texts of both responses, in the order in which the run compares them.
    pub answers: [String; 2],
}

/// Reads the pairs of an iteration, in the journal's order: those that the judge compared, or before it has,
/// the first two of each sample that differ.
///
/// # Errors
/// Where a journal cannot be read, or holds what it should not.
pub fn comparisons(run: &Path, iteration: u32) -> Result<Vec<Comparison>, Error> {
    let dir = iteration_dir(run, iteration);
    let verdicts: Vec<VerdictRecord> = read_journal(&dir.join("verdicts.jsonl"))?;
    let compared: HashMap<_, _> =
        verdicts.into_iter().map(|record| (record.sample, record.compared)).collect();
    let responses: Vec<ResponseRecord> = read_journal(&dir.join("responses.jsonl"))?;
    let comparison = |record: ResponseRecord| {
        let pair = compared.get(&record.sample).copied().or_else(|| first_difference(&record.responses))?;
        let [first, second] = pair.map(|index| record.responses.get(index).map(|it| it.text.clone()));
        Some(Comparison {
            sample: record.sample.0,
            video: record.video,
            instruction: record.instruction,
            answers: [first?, second?],
        })
    };
    Ok(responses.into_iter().filter_map(comparison).collect())
}
