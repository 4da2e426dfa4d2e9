//! The pairs of answers that a run has.

use std::collections::HashMap;
use std::path::Path;

use isr_core::first_difference;
use isr_core::store::{ResponseRecord, VerdictRecord, iteration_dir, read_journal};

use crate::error::AnnotateError;

/// Two answers to one sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) sample: String,
    pub(crate) video: String,
    pub(crate) instruction: String,
    /// Texts, in the order in which the run compares them.
    pub(crate) answers: [String; 2],
}

/// The pairs of an iteration, in the journal's order. Those that a judge compared, where it has.
pub(crate) fn of_iteration(run: &Path, iteration: u32) -> Result<Vec<Case>, AnnotateError> {
    let dir = iteration_dir(run, iteration);
    let verdicts: Vec<VerdictRecord> = read_journal(&dir.join("verdicts.jsonl"))?;
    let compared: HashMap<_, _> =
        verdicts.into_iter().map(|record| (record.sample, record.compared)).collect();
    let responses: Vec<ResponseRecord> = read_journal(&dir.join("responses.jsonl"))?;
    let case = |record: ResponseRecord| {
        let pair = compared.get(&record.sample).copied().or_else(|| first_difference(&record.responses))?;
        let [first, second] = pair.map(|index| record.responses.get(index).map(|it| it.text.clone()));
        Some(Case {
            sample: record.sample.0,
            video: record.video,
            instruction: record.instruction,
            answers: [first?, second?],
        })
    };
    Ok(responses.into_iter().filter_map(case).collect())
}

/// The pairs of the iteration that is asked for, or of the last that has any.
pub(crate) fn of_run(run: &Path, iteration: Option<u32>) -> Result<(u32, Vec<Case>), AnnotateError> {
    if let Some(iteration) = iteration {
        let cases = of_iteration(run, iteration)?;
        return match cases.is_empty() {
            true => Err(AnnotateError::NoPairsIn { path: run.to_owned(), iteration }),
            false => Ok((iteration, cases)),
        };
    }
    // They are numbered without holes.
    let existing = (1..).take_while(|&number| iteration_dir(run, number).is_dir());
    for number in existing.collect::<Vec<_>>().into_iter().rev() {
        let cases = of_iteration(run, number)?;
        if !cases.is_empty() {
            return Ok((number, cases));
        }
    }
    Err(AnnotateError::NoPairs { path: run.to_owned() })
}
