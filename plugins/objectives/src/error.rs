//! Errors of `isr-objectives`: all of them are faults of the trainer that hands a batch over.

use isr_api::{ComponentError, View};

/// A batch from which no loss can be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// There is nothing to average over.
    #[error("the batch has no pairs; hand over at least one")]
    Empty,
    /// A slice does not have the length that the batch implies.
    #[error("{view:?}: {what} has {got} entries; {expected} are expected")]
    Length {
        /// The view that is wrong.
        view: View,
        /// `policy`, `reference` or `lengths`.
        what: &'static str,
        /// Entries that the other slices imply.
        expected: usize,
        /// Entries found.
        got: usize,
    },
    /// A number that cannot be a log-prob.
    #[error(
        "{view:?}: {what}[{index}] is {value}, which is no log-prob; the model's weights or its \
         learning rate are the likely cause"
    )]
    NotLogProb {
        /// The view that is wrong.
        view: View,
        /// `policy` or `reference`.
        what: &'static str,
        /// Index into that slice.
        index: usize,
        /// What stands there.
        value: f64,
    },
    /// An answer without tokens has no mean log-prob.
    #[error("{view:?}: the answer of pair {pair} has no tokens; leave such examples out")]
    NoTokens {
        /// The view that is wrong.
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
