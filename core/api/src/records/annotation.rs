//! What people chose, and what it is to choose.

use serde::{Deserialize, Serialize};

use crate::sample::SampleId;

/// What a judge, a person or the facts say of two answers, in the order in which the run compared them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The first is better.
    First,
    /// The second is better.
    Second,
    /// Neither is.
    Tie,
}

impl Choice {
    /// The choice of a probability that the first is better: a tie at exactly one half.
    pub fn of_probability(p_first: f64) -> Self {
        Self::of_difference(p_first - 0.5)
    }

    /// The choice of how much better the first is.
    pub fn of_difference(difference: f64) -> Self {
        if difference > 0.0 {
            Self::First
        } else if difference < 0.0 {
            Self::Second
        } else {
            Self::Tie
        }
    }

    /// The probability that the first answer is better, as a judge would say it.
    pub fn p_first(self) -> f64 {
        match self {
            Self::First => 1.0,
            Self::Second => 0.0,
            Self::Tie => 0.5,
        }
    }
}

/// A line of `annotations.jsonl`: what a person said of one pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// The iteration that sampled the answers.
    pub iteration: u32,
    /// The sample.
    pub sample: SampleId,
    /// What was chosen.
    pub choice: Choice,
    /// Whether the first answer was shown first.
    pub first_shown_first: bool,
    /// Who chose.
    pub annotator: String,
    /// Seconds from showing the pair to the choice, as the page measured them.
    pub seconds: f64,
}
