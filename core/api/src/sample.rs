//! Samples with and without reference answers.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Identifier of a sample: unique within its source and stable between runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SampleId(pub String);

impl SampleId {
    /// Returns the identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for SampleId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A training input: one video with one instruction.
///
/// It has no reference answer. Training code takes a `Sample` and therefore cannot read one; evaluation takes a
/// [`LabelledSample`].
/// ```
/// fn train_on(sample: &isr_api::Sample) -> &str {
///     &sample.instruction
/// }
/// ```
/// ```compile_fail,E0609
/// fn train_on(sample: &isr_api::Sample) -> &str {
///     &sample.reference
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Identifier.
    pub id: SampleId,
    /// Path of a video file or of a folder of frames, with the span of a part ([`VideoSpan`](crate::VideoSpan)).
    pub video: PathBuf,
    /// The instruction about the video, as text for the user turn.
    pub instruction: String,
}

/// A sample with its reference answer and facts. Only evaluation and audit code receives one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelledSample {
    /// The part that the policy may see.
    pub sample: Sample,
    /// The reference answer.
    pub reference: String,
    /// Ground truth in the source's own format, for an [`Evaluator`](crate::Evaluator) that reads it; null where
    /// unknown.
    #[serde(default)]
    pub facts: serde_json::Value,
}
