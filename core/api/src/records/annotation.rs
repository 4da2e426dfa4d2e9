//! Human annotations of response pairs.

use serde::{Deserialize, Serialize};

use crate::sample::SampleId;

/// A preference between two responses: of a judge, of a human annotator, or by ground truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The first response of the comparison is better.
    First,
    /// The second response of the comparison is better.
    Second,
    /// Neither is better.
    Tie,
}

impl Choice {
    /// Converts a probability that the first response is better; exactly 0.5 is a tie.
    pub fn of_probability(p_first: f64) -> Self {
        Self::of_difference(p_first - 0.5)
    }

    /// Converts a difference of scores, first minus second; 0 and NaN are ties.
    pub fn of_difference(difference: f64) -> Self {
        if difference > 0.0 {
            Self::First
        } else if difference < 0.0 {
            Self::Second
        } else {
            Self::Tie
        }
    }

    /// Returns the probability that the first response is better: 1, 0, or 0.5 for a tie.
    pub fn p_first(self) -> f64 {
        match self {
            Self::First => 1.0,
            Self::Second => 0.0,
            Self::Tie => 0.5,
        }
    }
}

/// A line of `annotations.jsonl`: one annotator's preference on one pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Iteration that sampled the responses, from 1.
    pub iteration: u32,
    /// Id of the sample.
    pub sample: SampleId,
    /// The preference, in the order in which the run compared the responses.
    pub choice: Choice,
    /// Presentation order: true if the first response was shown first.
    pub first_shown_first: bool,
    /// Name of the annotator.
    pub annotator: String,
    /// Seconds between display and choice, measured in the browser.
    pub seconds: f64,
}
