//! Messages that only native libraries have. The others are [`isr_api::messages`], with [`VideoMessage`] as the
//! video and a blob's index as an array. Fields may be added; readers ignore unknown keys, and have a default for
//! every key that was added later.

use std::path::{Path, PathBuf};

use isr_api::{CheckpointKind, FeatureType, Fingerprint, Manifest};
use serde::{Deserialize, Serialize};

use crate::error::RemoteError;

/// Manifest of a library.
#[derive(Debug, Serialize, Deserialize)]
pub struct Described {
    /// Version of the SDK that it was built with.
    pub sdk: String,
    /// Its components.
    pub components: Vec<Manifest>,
}

/// Reply that is a text: a description, a fingerprint, a device key.
#[derive(Debug, Serialize, Deserialize)]
pub struct TextMessage {
    /// The text.
    pub text: String,
}

/// Decoded frames; parameters of `encode`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FramesMessage {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Presentation time of each frame in seconds.
    pub timestamps: Vec<f64>,
    /// Index of the blob with `u8` samples of shape `[frames, height, width, 3]`.
    pub rgb: usize,
    /// Duration in seconds of the sampled clip; absent where the sender does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
}

/// Visual features; reply to `encode`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeaturesMessage {
    /// Element type.
    pub dtype: FeatureType,
    /// `[frames, tokens, dim]`.
    pub shape: [usize; 3],
    /// Fingerprint of the encoder.
    pub encoder: Fingerprint,
    /// Index of the blob with the elements, little-endian and row-major.
    pub bytes: usize,
}

/// A video with its frames, and its features where the receiver may need them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VideoMessage {
    /// Path of the file or folder.
    pub video: PathBuf,
    /// Decoded frames.
    pub frames: FramesMessage,
    /// Visual features; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeaturesMessage>,
}

/// Parameters of `together`. The blobs hold, for each request in order, its JSON and then its own blobs.
#[derive(Debug, Serialize, Deserialize)]
pub struct QuestionsMessage {
    /// The requests.
    pub questions: Vec<QuestionMessage>,
}

/// One request of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub struct QuestionMessage {
    /// Method: `generate` or `score`.
    pub method: String,
    /// Number of the request's own blobs.
    pub blobs: usize,
}

/// Reply to `together`. The blobs hold, for each answer in order that is no error, its JSON and then its own blobs.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswersMessage {
    /// One answer a request, in order.
    pub answers: Vec<AnswerMessage>,
}

/// One answer of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswerMessage {
    /// The error, where the request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RemoteError>,
    /// Number of the answer's own blobs.
    pub blobs: usize,
}

/// Parameters of `save` and `load`.
#[derive(Debug, Serialize, Deserialize)]
pub struct CheckpointMessage {
    /// Folder of the checkpoint.
    pub dir: PathBuf,
    /// Whether optimiser state is part of it.
    pub training: bool,
}

impl CheckpointMessage {
    /// A checkpoint of a kind in a folder.
    pub fn new(dir: &Path, kind: CheckpointKind) -> Self {
        Self { dir: dir.to_owned(), training: kind == CheckpointKind::TrainerState }
    }

    /// The checkpoint's kind.
    pub fn kind(&self) -> CheckpointKind {
        if self.training { CheckpointKind::TrainerState } else { CheckpointKind::Model }
    }
}
