//! Calls of policies and encoders. Pixels and features lie in files of a folder that both sides share.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{GenerateMessage, MessageError, Number, TurnMessage};
use crate::policy::{CheckpointKind, Continuation, TokenLogProbs};
use crate::reasoning::{Reasoning, ReasoningFormat};
use crate::response::FinishReason;
use crate::video::FeatureType;

/// A raw array in a file: little-endian, row-major.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayFile {
    /// Name of the file in the exchange folder.
    pub file: String,
    /// Shape; of frames `[frames, height, width, 3]` of `u8`.
    pub shape: Vec<usize>,
}

/// Features of a video in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeaturesFile {
    /// Name of the file in the exchange folder.
    pub file: String,
    /// Shape `[frames, tokens, dim]`.
    pub shape: [usize; 3],
    /// Element type.
    pub dtype: FeatureType,
    /// Fingerprint of the encoder; empty in an encoder's own reply.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub encoder: String,
}

/// A video whose pixels lie in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoFiles {
    /// [`VideoInput::key`](crate::VideoInput::key): the path, lossy where it is not UTF-8.
    pub video: String,
    /// Pixels.
    pub frames: ArrayFile,
    /// Presentation time of each frame in seconds.
    pub timestamps: Vec<f64>,
    /// Duration of the clip in seconds.
    pub duration: f64,
    /// The encoder's features; null without an encoder.
    pub features: Option<FeaturesFile>,
}

/// Parameters of an encoder's `encode`. The reply is a [`FeaturesFile`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncodeMessage {
    /// Pixels.
    pub frames: ArrayFile,
    /// Presentation time of each frame in seconds.
    pub timestamps: Vec<f64>,
    /// Duration of the clip in seconds.
    pub duration: f64,
}

/// Reply to an encoder's `properties`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderProperties {
    /// Text that changes with weights, preprocessing and selected layer.
    pub fingerprint: String,
    /// See [`VideoEncoder::device_key`](crate::VideoEncoder::device_key).
    #[serde(default)]
    pub device_key: String,
}

/// Reply to a policy's `properties`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProperties {
    /// Text that changes with the weights.
    pub fingerprint: String,
    /// Examples of a training micro-batch.
    pub micro_batch: usize,
    /// An encoder of the policy's own; none yet, so always null.
    #[serde(default)]
    pub encoder: Option<EncoderProperties>,
    /// See [`Policy::reasoning_format`](crate::Policy::reasoning_format); absent if the policy writes no reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningFormat>,
    /// See [`Policy::reads_frames`](crate::Policy::reads_frames); default true.
    #[serde(default = "yes")]
    pub reads_frames: bool,
    /// Whether it takes training steps as a whole, by `train_step`, in place of `forward`, `backward` and `apply`; default
    /// false.
    #[serde(default)]
    pub whole_steps: bool,
}

fn yes() -> bool {
    true
}

/// Parameters of a policy's `generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateCall {
    /// The request.
    #[serde(flatten)]
    pub request: GenerateMessage<VideoFiles>,
    /// Whether progress is wanted.
    pub stream: bool,
}

/// Reply to a policy's `generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratedMessage {
    /// Fingerprint of the weights that computed it, as the plugin told it.
    pub policy: String,
    /// Length of the prompt in tokens, where it is told.
    #[serde(default)]
    pub prompt_tokens: Option<usize>,
    /// The answers.
    pub responses: Vec<AnswerMessage>,
}

/// An answer: a [`Response`](crate::Response) without the fingerprint of its policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerMessage {
    /// Decoded text.
    pub text: String,
    /// Sampled tokens.
    pub token_ids: Vec<u32>,
    /// Log-prob of each token.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What the model wrote before the answer; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Reasoning>,
}

/// Reply to a policy's `score`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredMessage {
    /// Fingerprint of the weights that computed it, as the plugin told it.
    pub policy: String,
    /// One score a continuation.
    pub scores: Vec<TokenLogProbs>,
}

/// A sequence to train on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceMessage {
    /// The conversation, oldest turn first.
    pub prompt: Vec<TurnMessage<VideoFiles>>,
    /// The completion.
    pub continuation: Continuation,
}

/// Parameters of `forward`: the sequences of a micro-batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardMessage {
    /// Index of the step within its training.
    pub step: u64,
    /// Seed of the step's random draws; differs between micro-batches.
    pub seed: u64,
    /// Whether the step begins, so that gradients which have added up are dropped.
    #[serde(default)]
    pub begin: bool,
    /// The sequences: view by view, in a view example by example.
    pub sequences: Vec<SequenceMessage>,
}

/// Reply to `forward`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardedMessage {
    /// One score a sequence.
    pub scores: Vec<TokenLogProbs>,
}

/// Parameters of `backward`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackwardMessage {
    /// Derivative of the step's loss by each log-prob of each sequence of the last `forward`.
    pub gradients: Vec<Vec<f64>>,
}

/// Parameters of `apply`: the optimiser's step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyMessage {
    /// Index of the step within its training; 0 resets the optimiser.
    pub step: u64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Threshold of gradient clipping, a global L2 norm; null where it is off.
    pub max_grad_norm: Option<f64>,
}

/// Reply to `apply`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppliedMessage {
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: Number,
    /// Fingerprint of the weights after the step.
    pub fingerprint: String,
}

/// Parameters of `save` and `load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMessage {
    /// The folder, an absolute path.
    pub dir: String,
    /// `model` or `trainer_state`.
    pub what: String,
}

const MODEL: &str = "model";
const TRAINER_STATE: &str = "trainer_state";

impl CheckpointMessage {
    /// A checkpoint of a kind in a folder, whose path is made absolute.
    ///
    /// # Errors
    /// A path that is no text, or the folder of this program cannot be told.
    pub fn new(dir: &Path, what: CheckpointKind) -> Result<Self, MessageError> {
        let dir = std::path::absolute(dir).map_err(|error| MessageError::new(error.to_string()))?;
        let text = dir.to_str().map(str::to_owned);
        let dir =
            text.ok_or_else(|| MessageError::new(format!("the path {} is no text", dir.display())))?;
        let what = match what {
            CheckpointKind::Model => MODEL,
            CheckpointKind::TrainerState => TRAINER_STATE,
        };
        Ok(Self { dir, what: what.to_owned() })
    }

    /// The checkpoint's kind.
    ///
    /// # Errors
    /// A name of none.
    pub fn kind(&self) -> Result<CheckpointKind, MessageError> {
        match self.what.as_str() {
            MODEL => Ok(CheckpointKind::Model),
            TRAINER_STATE => Ok(CheckpointKind::TrainerState),
            other => {
                let text = format!("`what` is `{other}`, neither `{MODEL}` nor `{TRAINER_STATE}`");
                Err(MessageError::new(text))
            }
        }
    }
}

/// Reply to `load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintMessage {
    /// Fingerprint of the weights that were loaded.
    pub fingerprint: String,
}
