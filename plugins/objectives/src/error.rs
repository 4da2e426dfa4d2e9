//! Errors of `isr-objectives`. All of them report faults of the trainer that built the batch.

use isr_api::{ComponentError, View};

/// Invalid batch of an objective.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// The batch has no pairs, so no mean.
    #[error("the batch has no pairs; hand over at least one")]
    Empty,
    /// A slice's length does not match the number of pairs or tokens.
    #[error("{view:?}: {what} has {got} entries; {expected} are expected")]
    Length {
        /// View of the slice.
        view: View,
        /// Slice: `policy`, `reference` or `lengths`.
        what: &'static str,
        /// Expected number of entries.
        expected: usize,
        /// Actual number of entries.
        got: usize,
    },
    /// A value that is no log-prob: NaN, infinite, or beyond 1e100.
    #[error(
        "{view:?}: {what}[{index}] is {value}, which is no log-prob; the model's weights or its \
         learning rate are the likely cause"
    )]
    NotLogProb {
        /// View of the slice.
        view: View,
        /// Slice: `policy` or `reference`.
        what: &'static str,
        /// Index into the slice.
        index: usize,
        /// The value.
        value: f64,
    },
    /// An empty answer, which has no mean log-prob.
    #[error("{view:?}: the answer of pair {pair} has no tokens; leave such examples out")]
    NoTokens {
        /// View of the slice.
        view: View,
        /// Index of the pair in the batch.
        pair: usize,
    },
}

impl From<ObjectiveError> for ComponentError {
    fn from(error: ObjectiveError) -> Self {
        Self::failed(error)
    }
}
