//! Where samples come from, and how answers are measured.

use std::collections::BTreeMap;

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
