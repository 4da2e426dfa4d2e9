//! Human annotations of response pairs.

use serde::{Deserialize, Serialize};

use crate::choice::Choice;
use crate::sample::SampleId;

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
