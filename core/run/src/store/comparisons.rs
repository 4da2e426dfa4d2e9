//! The compared pairs of responses, read from a run directory.

use std::collections::HashMap;
use std::path::Path;

use isr_api::Error;
use isr_api::records::{ResponseRecord, VerdictRecord};

use super::{first_difference, iteration_dir, read_journal};

/// A compared pair of responses to one sample, as texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Id of the sample.
    pub sample: String,
    /// Key of the sample's video ([`isr_api::video_key`]).
    pub video: String,
    /// The instruction.
    pub instruction: String,
    /// Texts of both responses, in the order of the comparison.
    pub answers: [String; 2],
}

/// Reads the compared pairs of an iteration, in the order of `responses.jsonl`. For a sample without a verdict, the
/// pair is its [`first_difference`].
///
/// # Errors
/// [`Error::Io`] or [`Error::Damaged`] for a journal that cannot be read.
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
