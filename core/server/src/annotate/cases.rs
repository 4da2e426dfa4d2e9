//! Pairs of one iteration of a run.

use std::path::Path;

use isr_run::store::{Comparison, comparisons, iteration_dir};

use super::error::AnnotateError;

/// Pairs of `iteration`, or of the last iteration that has any; and its number.
pub(crate) fn of_run(run: &Path, iteration: Option<u32>) -> Result<(u32, Vec<Comparison>), AnnotateError> {
    if let Some(iteration) = iteration {
        let cases = comparisons(run, iteration)?;
        return match cases.is_empty() {
            true => Err(AnnotateError::NoPairsIn { path: run.to_owned(), iteration }),
            false => Ok((iteration, cases)),
        };
    }
    // Iterations are numbered contiguously.
    let existing = (1..).take_while(|&number| iteration_dir(run, number).is_dir());
    for number in existing.collect::<Vec<_>>().into_iter().rev() {
        let cases = comparisons(run, number)?;
        if !cases.is_empty() {
            return Ok((number, cases));
        }
    }
    Err(AnnotateError::NoPairs { path: run.to_owned() })
}
