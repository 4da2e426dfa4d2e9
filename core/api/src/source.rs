//! Where samples come from, and how answers are measured.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ComponentError;
use crate::sample::{LabelledSample, Sample};

/// A set of samples.
///
/// # Contract
/// - Each list has a fixed order and unique ids.
/// - `training` and `evaluation` share no video.
#[async_trait]
pub trait SampleSource: Send + Sync {
    /// Makes what must exist before the first sample is read (renders, converts, downloads). It does
    /// nothing where that was done before.
    async fn prepare(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    /// What the policy learns from.
    async fn training(&self) -> Result<Vec<Sample>, ComponentError>;

    /// Held-out samples with their answers.
    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError>;

    /// Training samples with what is true of them, to measure judges and contexts with. No training
    /// code receives it. Empty where no truth is known.
    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(Vec::new())
    }
}

/// How good a text is, by the facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// Overall quality, larger is better; two answers to one sample are compared by it.
    pub quality: f64,
    /// Named figures that are averaged over samples (`accuracy`, `hallucination`, ...).
    pub metrics: BTreeMap<String, f64>,
}

/// Measures texts against what is known. Pure.
pub trait Evaluator: Send + Sync {
    /// Assesses an answer to the sample's instruction; `None` where the sample's facts do not allow it.
    fn answer(&self, sample: &LabelledSample, answer: &str) -> Option<Assessment>;

    /// Assesses a description of the sample's video; `None` where that cannot be done.
    fn context(&self, sample: &LabelledSample, text: &str) -> Option<Assessment>;
}

/// A prompt and the answer to learn, for supervised training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// Identifier, unique within the source.
    pub id: String,
    /// A video file or a folder of frames; `None` where the prompt is text alone.
    #[serde(default)]
    pub video: Option<PathBuf>,
    /// What the model reads.
    pub prompt: String,
    /// What it learns to write.
    pub answer: String,
}

/// A set of demonstrations for a warm start.
///
/// # Contract
/// Demonstration `index` is always the same one.
#[async_trait]
pub trait Demonstrations: Send + Sync {
    /// Makes what must exist before the first demonstration is read; nothing where that was done.
    async fn prepare(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    /// How many there are; training goes through them in order, and starts over at the end.
    async fn count(&self) -> Result<u64, ComponentError>;

    /// Demonstration `index`, below `count`.
    async fn get(&self, index: u64) -> Result<Demonstration, ComponentError>;

    /// Texts from which a tokenizer can be trained.
    async fn corpus(&self) -> Result<Vec<String>, ComponentError>;
}
