//! Data sources ([`SampleSource`], [`Demonstrations`]) and metrics of responses ([`Evaluator`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ComponentError;
use crate::preferences::UnusableRow;
use crate::prompt::Turn;
use crate::sample::{LabelledSample, Sample};

/// A dataset for the loop.
///
/// # Contract
/// - Each split has a fixed order and unique ids.
/// - `training` and `evaluation` share no video.
#[async_trait]
pub trait SampleSource: Send + Sync {
    /// Prepares the data (renders, converts, downloads) before the first sample is read. Idempotent. Default:
    /// nothing to prepare.
    async fn prepare(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    /// Returns the training split.
    async fn training(&self) -> Result<Vec<Sample>, ComponentError>;

    /// Returns the held-out split with reference answers.
    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError>;

    /// Returns training samples with their ground truth, to measure judges and visual contexts. Training code
    /// never receives them. Default: empty, no ground truth is known.
    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(Vec::new())
    }
}

/// An evaluation of one text against the ground truth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// Scalar quality, larger is better. Judges are audited by comparing it between two responses.
    pub quality: f64,
    /// Metrics, averaged over samples: `accuracy`, `hallucination`, ...
    pub metrics: BTreeMap<String, f64>,
}

/// Computes metrics of texts against the ground truth of a sample.
///
/// # Contract
/// - The same sample and text give the same assessment, as far as a server that is asked allows.
/// - Called concurrently.
///
/// # Errors
/// [`ComponentError::BadInput`] if this text cannot be evaluated: the sample is quarantined. A reply of a scorer that
/// does not parse is no error but a metric, `unparsed`, and leaves out those that it should have given.
#[async_trait]
pub trait Evaluator: Send + Sync {
    /// Evaluates a response to the sample's instruction; `None` if the sample's facts do not suffice.
    async fn answer(
        &self,
        sample: &LabelledSample,
        answer: &str,
    ) -> Result<Option<Assessment>, ComponentError>;

    /// Evaluates a description of the sample's video; `None` if the sample's facts do not suffice. Default: `None`.
    async fn context(
        &self,
        _sample: &LabelledSample,
        _text: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        Ok(None)
    }

    /// Whether an assessment takes a request to a server or a pass of a model. Such an evaluator is asked about
    /// held-out answers only: judges are not compared with it. Default: false.
    fn is_costly(&self) -> bool {
        false
    }
}

/// A prompt with its target response, for supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// Identifier, unique within the source.
    pub id: String,
    /// Path of a video file, of a folder of frames or of an image; `None` for a text-only prompt.
    #[serde(default)]
    pub video: Option<PathBuf>,
    /// Turns before the user turn, oldest first: a system prompt, and earlier questions with their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// Text of the user turn.
    pub prompt: String,
    /// Text of the assistant turn, the target.
    pub answer: String,
}

/// A dataset of demonstrations for supervised fine-tuning, the warm start of the loop.
///
/// # Contract
/// `get` is deterministic: the same index returns the same demonstration.
#[async_trait]
pub trait Demonstrations: Send + Sync {
    /// Prepares the data before the first demonstration is read. Idempotent. Default: nothing to prepare.
    async fn prepare(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    /// Returns the number of demonstrations. Training iterates over them in order, cyclically.
    async fn count(&self) -> Result<u64, ComponentError>;

    /// Returns demonstration `index`, which is below [`count`](Self::count).
    async fn get(&self, index: u64) -> Result<Demonstration, ComponentError>;

    /// Returns the rows of the dataset that cannot be used, which are quarantined. Default: none.
    async fn unusable(&self) -> Result<Vec<UnusableRow>, ComponentError> {
        Ok(Vec::new())
    }

    /// Returns texts to train a tokenizer on, for a model that is created from scratch.
    async fn corpus(&self) -> Result<Vec<String>, ComponentError>;
}
