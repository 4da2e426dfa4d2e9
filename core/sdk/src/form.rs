//! The forms of messages: what stands in their JSON. Fields may be added; readers ignore what they do not
//! know, and have a default for what they miss.

use std::collections::BTreeMap;
use std::path::PathBuf;

use isr_api::{
    CheckpointKind, Continuation, FeatureType, Fingerprint, Granularity, Manifest, Requirements, Response,
    Role, Sampling, View, VisualContext,
};
use serde::{Deserialize, Serialize};

use crate::error::RemoteError;

/// What a library says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Described {
    /// Version of the SDK that it was built with.
    pub sdk: String,
    /// Its components.
    pub components: Vec<Manifest>,
}

/// A text, for replies that are nothing else.
#[derive(Debug, Serialize, Deserialize)]
pub struct TextForm {
    /// The text.
    pub text: String,
}

/// Frames; `rgb` is a blob.
#[derive(Debug, Serialize, Deserialize)]
pub struct FramesForm {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Seconds from the clip's start, one a frame.
    pub timestamps: Vec<f64>,
    /// Index of the blob.
    pub rgb: usize,
}

/// Features; `bytes` is a blob.
#[derive(Debug, Serialize, Deserialize)]
pub struct FeaturesForm {
    /// Element type.
    pub dtype: FeatureType,
    /// `[frames, tokens, dim]`.
    pub shape: [usize; 3],
    /// Who made them.
    pub encoder: Fingerprint,
    /// Index of the blob.
    pub bytes: usize,
}

/// A video.
#[derive(Debug, Serialize, Deserialize)]
pub struct SceneForm {
    /// Its path.
    pub video: PathBuf,
    /// Its frames.
    pub frames: FramesForm,
    /// Its features, where the receiver may want them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeaturesForm>,
}

/// A piece of a message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartForm {
    /// Text.
    Text(String),
    /// The video of the call under way, by index.
    Known(usize),
    /// Another video.
    Video(SceneForm),
}

/// One turn.
#[derive(Debug, Serialize, Deserialize)]
pub struct TurnForm {
    /// The speaker.
    pub role: Role,
    /// What is said.
    pub parts: Vec<PartForm>,
}

/// `judge`.
#[derive(Debug, Serialize, Deserialize)]
pub struct JudgeForm {
    /// The video.
    pub scene: SceneForm,
    /// The question.
    pub instruction: String,
    /// The evidence.
    pub context: Option<VisualContext>,
    /// One answer.
    pub first: Response,
    /// The other.
    pub second: Response,
    /// For every random draw.
    pub seed: u64,
}

/// The reply to `judge`.
#[derive(Debug, Serialize, Deserialize)]
pub struct VerdictForm {
    /// Probability that `first` is better.
    pub p_first: Number,
    /// The looks.
    #[serde(default)]
    pub votes: Vec<VoteForm>,
    /// Whether they agree.
    pub consistent: bool,
}

/// One look.
#[derive(Debug, Serialize, Deserialize)]
pub struct VoteForm {
    /// Whether `first` was shown first.
    pub first_shown_first: bool,
    /// Probability that `first` is better.
    pub p_first: Number,
}

/// `describe`.
#[derive(Debug, Serialize, Deserialize)]
pub struct DescribeForm {
    /// The video.
    pub scene: SceneForm,
    /// What was written before.
    pub previous: Option<VisualContext>,
    /// For every random draw.
    pub seed: u64,
}

/// `generate`.
#[derive(Debug, Serialize, Deserialize)]
pub struct GenerateForm {
    /// The conversation.
    pub prompt: Vec<TurnForm>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// How many answers.
    pub n: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// `score`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ScoreForm {
    /// The conversation.
    pub prompt: Vec<TurnForm>,
    /// What is scored after it.
    pub continuations: Vec<Continuation>,
}

/// `together`: for each question, in order, its JSON is a blob and its own blobs follow.
#[derive(Debug, Serialize, Deserialize)]
pub struct QuestionsForm {
    /// The questions.
    pub questions: Vec<QuestionForm>,
}

/// One of several questions.
#[derive(Debug, Serialize, Deserialize)]
pub struct QuestionForm {
    /// What is asked for.
    pub method: String,
    /// How many blobs of its own it has.
    pub blobs: usize,
}

/// The reply to `together`: for each answer that is no error, in order, its JSON and its own blobs.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswersForm {
    /// One a question.
    pub answers: Vec<AnswerForm>,
}

/// One of several answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswerForm {
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RemoteError>,
    /// How many blobs of its own it has.
    pub blobs: usize,
}

/// A continuation to train on.
#[derive(Debug, Serialize, Deserialize)]
pub struct TargetForm {
    /// The answer.
    pub continuation: Continuation,
    /// Log-probs under the reference.
    pub reference: Option<Vec<f32>>,
}

/// An example.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExampleForm {
    /// The conversation.
    pub prompt: Vec<TurnForm>,
    /// The preferred answer.
    pub chosen: TargetForm,
    /// The one that lost.
    pub rejected: Option<TargetForm>,
    /// The preferred answer after the prompt with a corrupted video, where the objective asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupted: Option<PromptedForm>,
    /// Another pair's answer, where the objective asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatched: Option<TargetForm>,
}

/// A continuation after a prompt of its own.
#[derive(Debug, Serialize, Deserialize)]
pub struct PromptedForm {
    /// The conversation.
    pub prompt: Vec<TurnForm>,
    /// The answer.
    pub target: TargetForm,
}

/// `train_step`.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainForm {
    /// The pairs.
    pub examples: Vec<ExampleForm>,
    /// From 0.
    pub step: u64,
    /// Of this step.
    pub learning_rate: f64,
    /// Largest norm of the gradient.
    pub max_grad_norm: Option<f64>,
}

/// `save` and `load`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotForm {
    /// The folder.
    pub dir: PathBuf,
    /// Whether optimiser state is part of it.
    pub training: bool,
}

impl SnapshotForm {
    /// Which of the two it is.
    pub fn what(&self) -> CheckpointKind {
        if self.training { CheckpointKind::TrainerState } else { CheckpointKind::Model }
    }
}

/// Log-probs of a view; `policy` and `reference` are blobs of `f64`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ViewForm {
    /// Its [`View::name`].
    pub view: String,
    /// Index of the blob.
    pub policy: usize,
    /// Index of the blob.
    pub reference: usize,
    /// Tokens of each pair.
    pub lengths: Vec<usize>,
}

/// `evaluate`, as a policy asks it of its host.
#[derive(Debug, Serialize, Deserialize)]
pub struct BatchForm {
    /// The views.
    pub views: Vec<ViewForm>,
}

/// The reply; gradients are the blobs, in order.
#[derive(Debug, Serialize, Deserialize)]
pub struct ValueForm {
    /// The loss.
    pub loss: Number,
    /// Means over pairs.
    pub metrics: BTreeMap<String, Number>,
}

/// `requirements`.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequirementsForm {
    /// Their [`View::name`]s, in order.
    pub views: Vec<String>,
    /// One number a token, not a pair.
    pub per_token: bool,
    /// Whether the reference's log-probs are needed.
    pub reference: bool,
}

impl From<&Requirements> for RequirementsForm {
    fn from(wanted: &Requirements) -> Self {
        Self {
            views: wanted.views.iter().map(|view| view.name().to_owned()).collect(),
            per_token: wanted.granularity == Granularity::PerToken,
            reference: wanted.reference,
        }
    }
}

impl TryFrom<RequirementsForm> for Requirements {
    type Error = RemoteError;

    fn try_from(form: RequirementsForm) -> Result<Self, RemoteError> {
        let views = form.views.iter().map(|name| view_named(name)).collect::<Result<_, _>>()?;
        let granularity = if form.per_token { Granularity::PerToken } else { Granularity::Summed };
        Ok(Self { views, granularity, reference: form.reference })
    }
}

/// The view of that name.
pub fn view_named(name: &str) -> Result<View, RemoteError> {
    View::named(name).ok_or_else(|| RemoteError::failed(format!("there is no view `{name}`")))
}

/// A number that may be none: JSON has no NaN, and hiding one would hide a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(&self.0.to_string())
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}
