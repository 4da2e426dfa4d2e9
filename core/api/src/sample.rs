//! What the loop learns from: a video and an instruction, and who may see the answer.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Identifies a sample within its source; unique there, and stable between runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SampleId(pub String);

impl SampleId {
    /// The identifier as text.
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

/// One (video, instruction) that the policy learns from.
///
/// It has no field for a reference answer: everything that trains takes a `Sample`, so nothing that
/// trains can read one. Evaluation takes a [`LabelledSample`].
/// ```
/// fn train_on(sample: &crate::Sample) -> &str {
///     &sample.instruction
/// }
/// ```
/// ```compile_fail,E0609
/// fn train_on(sample: &crate::Sample) -> &str {
///     &sample.reference
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Identifier, unique within the source.
    pub id: SampleId,
    /// A video file, or a folder of frames.
    pub video: PathBuf,
    /// What the model is asked about the video.
    pub instruction: String,
}

/// A sample with what is known to be true of it. Only measuring code receives one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelledSample {
    /// The part that a policy may see.
    pub sample: Sample,
    /// The reference answer.
    pub reference: String,
    /// Facts in the source's own form, for an evaluator that understands them; null where unknown.
    #[serde(default)]
    pub facts: serde_json::Value,
}
