//! Checked access to a trainer's batch, and the layout of gradients and metrics.

use std::collections::BTreeMap;

use isr_api::{ComponentError, Granularity, ObjectiveBatch, View, ViewLogProbs};

use crate::error::ObjectiveError;

/// Largest magnitude of a log-prob. Beyond it the model is broken and sums could overflow.
const LARGEST: f64 = 1e100;

/// Log-probs of one view, with the lengths of all slices and the range of all values checked.
pub(crate) fn checked(
    batch: &ObjectiveBatch,
    view: View,
    granularity: Granularity,
    reference: bool,
) -> Result<&ViewLogProbs, ComponentError> {
    let found = batch.view(view)?;
    let pairs = batch.pairs();
    if pairs == 0 {
        return Err(ObjectiveError::Empty.into());
    }
    expect_length(view, "lengths", pairs, found.lengths.len())?;
    let entries = match granularity {
        Granularity::Summed => pairs,
        Granularity::PerToken => found.lengths.iter().sum(),
    };
    check_numbers(view, "policy", entries, &found.policy)?;
    if reference {
        check_numbers(view, "reference", entries, &found.reference)?;
    }
    Ok(found)
}

/// Gradients in the order of the batch's views; zeros for views without an entry in `by_view`.
pub(crate) fn gradients<const N: usize>(
    batch: &ObjectiveBatch,
    by_view: [(View, Vec<f64>); N],
) -> Vec<Vec<f64>> {
    let gradient = |view: &ViewLogProbs| {
        let found = by_view.iter().find(|(name, _)| *name == view.view);
        found.map_or_else(|| vec![0.0; view.policy.len()], |(_, gradient)| gradient.clone())
    };
    batch.views.iter().map(gradient).collect()
}

/// Metrics of a batch: the mean of each over its pairs.
pub(crate) fn means<const N: usize>(figures: [(&str, Vec<f64>); N]) -> BTreeMap<String, f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    figures.iter().map(|(name, values)| ((*name).to_owned(), mean(values))).collect()
}

fn check_numbers(
    view: View,
    what: &'static str,
    expected: usize,
    values: &[f64],
) -> Result<(), ObjectiveError> {
    expect_length(view, what, expected, values.len())?;
    let is_log_prob = |value: f64| value.is_finite() && value.abs() <= LARGEST;
    match values.iter().position(|&value| !is_log_prob(value)) {
        Some(index) => Err(ObjectiveError::NotLogProb { view, what, index, value: values[index] }),
        None => Ok(()),
    }
}

fn expect_length(
    view: View,
    what: &'static str,
    expected: usize,
    got: usize,
) -> Result<(), ObjectiveError> {
    if got == expected { Ok(()) } else { Err(ObjectiveError::Length { view, what, expected, got }) }
}

/// Refuses a view with an empty answer: it has no mean log-prob.
pub(crate) fn expect_tokens(view: View, lengths: &[usize]) -> Result<(), ObjectiveError> {
    match lengths.iter().position(|&length| length == 0) {
        Some(pair) => Err(ObjectiveError::NoTokens { view, pair }),
        None => Ok(()),
    }
}
