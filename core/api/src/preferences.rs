//! Preference pairs that exist already ([`Preferences`]), and rows of a dataset that cannot be used.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ComponentError;
use crate::prompt::Turn;

/// A preference pair of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// Identifier, unique within the source and stable between runs.
    pub id: String,
    /// File and line or row that it was read from: `pairs.jsonl:12`.
    pub origin: String,
    /// Path of a video file, of a folder of frames or of an image; `None` for a text-only prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<PathBuf>,
    /// Turns before the last user turn, oldest first: a system prompt, and earlier questions with their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// Text of the last user turn.
    pub prompt: String,
    /// The chosen response, as text.
    pub chosen: String,
    /// The rejected response, as text.
    pub rejected: String,
    /// Probability that `chosen` is better, in [0, 1]; `None` where the dataset does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_chosen: Option<f64>,
}

/// A row of a dataset that cannot be used: it is quarantined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct UnusableRow {
    /// File and line or row: `pairs.jsonl:12`. Unique within the source.
    pub origin: String,
    /// What is wrong with it, and what is expected.
    pub reason: String,
}

/// A dataset of preference pairs, for offline preference training and for mixing into the loop's own pairs.
///
/// # Contract
/// `rows` returns the same rows in the same order on each call, with unique ids and origins.
#[async_trait]
pub trait Preferences: Send + Sync {
    /// Reads all rows. A row that cannot be used is an [`UnusableRow`] in its place, and the others are used.
    ///
    /// # Errors
    /// [`ComponentError::Failed`] for a file that cannot be read, or whose rows have another layout.
    async fn rows(&self) -> Result<Vec<Result<Preference, UnusableRow>>, ComponentError>;
}
