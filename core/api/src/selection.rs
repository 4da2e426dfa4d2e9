//! The [`Selection`] trait: which judged pairs become preference pairs.

use serde::{Deserialize, Serialize};

use crate::judge::Verdict;
use crate::response::Response;
use crate::sample::SampleId;

/// A judged pair of responses to one sample.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Id of the sample.
    pub sample: SampleId,
    /// The response that the verdict calls `first`.
    pub first: Response,
    /// The response that the verdict calls `second`.
    pub second: Response,
    /// The judge's verdict on the two.
    pub verdict: Verdict,
}

/// The decision on one [`Candidate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Trains with `first` as the chosen and `second` as the rejected response.
    ChooseFirst,
    /// Trains with `second` as the chosen and `first` as the rejected response.
    ChooseSecond,
    /// Drops the pair. The summary counts drops by this reason, so keep reasons few: `tie`, `low margin`.
    Drop(String),
}

/// Turns the verdicts of an iteration into preference pairs.
///
/// # Contract
/// - Returns one decision per candidate, in the same order.
/// - Deterministic. It sees the responses and verdicts of the whole iteration, and no reference answer.
pub trait Selection: Send + Sync {
    /// Decides on all candidates of one iteration.
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision>;
}
