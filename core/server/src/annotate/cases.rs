//! The pairs that are annotated: those of one iteration of a run.

use std::path::Path;

use isr_run::store::{Comparison, comparisons, iteration_dir};

use super::error::AnnotateError;

/// The pairs of the iteration that is asked for, or of the last that has any.
pub(crate) fn of_run(run: &Path, iteration: Option<u32>) -> Result<(u32, Vec<Comparison>), AnnotateError> {
    if let Some(iteration) = iteration {
        let cases = comparisons(run, iteration)?;
        return match cases.is_empty() {
            true => Err(AnnotateError::NoPairsIn { path: run.to_owned(), iteration }),
            false => Ok((iteration, cases)),
        };
    }
    // They are numbered without holes.
    let existing = (1..).take_while(|&number| iteration_dir(run, number).is_dir());
    for number in existing.collect::<Vec<_>>().into_iter().rev() {
        let cases = comparisons(run, number)?;
        if !cases.is_empty() {
            return Ok((number, cases));
        }
    }
    Err(AnnotateError::NoPairs { path: run.to_owned() })
}
