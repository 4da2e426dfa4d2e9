//! Which of two answers.

use serde::{Deserialize, Serialize};

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
    pub(crate) fn of_probability(p_first: f64) -> Self {
        Self::of_difference(p_first - 0.5)
    }

    /// The choice of how much better the first is.
    pub(crate) fn of_difference(difference: f64) -> Self {
        if difference > 0.0 {
            Self::First
        } else if difference < 0.0 {
            Self::Second
        } else {
            Self::Tie
        }
    }
}
