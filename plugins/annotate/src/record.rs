//! A line of `annotations.jsonl`.

use isr_core::SampleId;
use serde::{Deserialize, Serialize};

/// Which answer is better, in the order in which the run sampled them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The first of the two that were compared.
    First,
    /// The second.
    Second,
    /// Neither.
    Tie,
}

impl Choice {
    /// The probability that the first answer is better, as a judge would say it.
    pub fn p_first(self) -> f64 {
        match self {
            Self::First => 1.0,
            Self::Second => 0.0,
            Self::Tie => 0.5,
        }
    }
}

/// What a person said of one pair.
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
