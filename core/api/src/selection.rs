//! Which judged pairs are trained on.

use serde::{Deserialize, Serialize};

use crate::judge::Verdict;
use crate::response::Response;
use crate::sample::SampleId;

/// A judged pair of responses to one sample.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The sample.
    pub sample: SampleId,
    /// One response.
    pub first: Response,
    /// The other response.
    pub second: Response,
    /// The verdict on them.
    pub verdict: Verdict,
}

/// What becomes of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Train with `first` chosen.
    ChooseFirst,
    /// Train with `second` chosen.
    ChooseSecond,
    /// Leave it out; the reason is counted in the summary.
    Drop(String),
}

/// Chooses what to train on.
///
/// # Contract
/// Returns one decision a candidate, in order. Pure: it sees responses and verdicts of one whole
/// iteration, and no truth.
pub trait Selection: Send + Sync {
    /// Decides on all candidates of an iteration.
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision>;
}
