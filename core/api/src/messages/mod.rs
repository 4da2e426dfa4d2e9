//! Messages that cross to a component outside the program: one definition for every transport.
//!
//! | transport | how a message crosses | what differs |
//! |---|---|---|
//! | native library (`isr-plugin`) | JSON with binary blobs beside it | videos and arrays are indices of blobs |
//! | process (`isr-protocol`): Python, isolated libraries, any other program | JSON lines | arrays stand in the JSON; pixels are fetched frame by frame |
//! | WebAssembly (`isr-wasm`) | records of `plugins/wasm/wit/isr.wit` | kebab-case names; a test holds them against [`names`] |
//!
//! So a message is generic over its payload only: `V` is a video, `N` an array of numbers. The Python dataclasses
//! of `isr_plugin` are held against [`names`] by a test too.
//!
//! | message | type |
//! |---|---|
//! | `configure` | [`ComponentSpec`] |
//! | `judge`, its reply | [`JudgeMessage`], [`VerdictMessage`] |
//! | `describe` | [`DescribeMessage`] |
//! | `requirements` | [`RequirementsMessage`] |
//! | `evaluate`, its reply | [`BatchMessage`], [`ValueMessage`] |
//! | `answer` and `context` of evaluators, their reply | [`AssessMessage`], [`AssessmentMessage`] |
//! | `observe` | [`ObserveMessage`] |
//! | methods of encoders: `properties`, `encode` | [`EncoderProperties`], [`EncodeMessage`], [`ArrayFile`] |
//! | methods of policies: `properties`, `generate`, `score` | [`PolicyProperties`], [`GenerateCall`], [`GeneratedMessage`], [`ScoreMessage`], [`ScoredMessage`] |
//! | training of policies: `forward`, `backward`, `apply`, `save`, `load` | [`ForwardMessage`], [`ForwardedMessage`], [`BackwardMessage`], [`ApplyMessage`], [`AppliedMessage`], [`CheckpointMessage`], [`FingerprintMessage`] |
//! | a training step as a whole: `train_step`, its reply | [`TrainMessage`], [`TrainCall`], [`TrainedMessage`] |
//! | `rows`, its reply | [`RowsMessage`], [`PageMessage`] of [`SampleMessage`], [`PreferenceMessage`], [`DemonstrationMessage`] or [`UnusableMessage`] |
//! | questions to the policy: `generate`, `score`, `frame` | [`GenerateMessage`], [`ScoreMessage`], [`FrameMessage`] |
//! | limits of questions | [`QuestionLimits`] |
//!
//! # Compatibility
//! Fields may be added and are never removed or renamed. Readers ignore unknown keys, unless the transport refuses
//! them, and have a default for every field that was added later.

mod case;
mod event;
mod limits;
mod model;
mod names;
mod number;
mod objective;
mod question;
mod sample;
mod training;
mod verdict;

pub use case::{ComponentSpec, DescribeMessage, JudgeMessage, VideoInfo};
pub use event::{EventMessage, ObserveMessage};
pub use limits::QuestionLimits;
pub use model::{
    AnswerMessage, AppliedMessage, ApplyMessage, ArrayFile, BackwardMessage, CheckpointMessage,
    EncodeMessage, EncoderProperties, FeaturesFile, FingerprintMessage, ForwardMessage, ForwardedMessage,
    GenerateCall, GeneratedMessage, PolicyProperties, ScoredMessage, SequenceMessage, VideoFiles,
};
pub use names::names;
pub use number::Number;
pub use objective::{
    BatchMessage, GranularityMessage, RequirementsMessage, ValueMessage, ViewMessage, check_lengths,
};
pub use question::{
    FrameMessage, GenerateMessage, PartMessage, ScoreMessage, TurnMessage, prompt_from_turns,
    prompt_to_turns,
};
pub use sample::{
    AssessMessage, AssessmentMessage, DemonstrationMessage, PageMessage, PreferenceMessage, RowsMessage,
    SampleMessage, UnusableMessage,
};
pub use training::{
    ExampleMessage, PromptedMessage, TargetMessage, TrainCall, TrainMessage, TrainedMessage,
};
pub use verdict::{VerdictMessage, VoteMessage};

use crate::objective::View;

/// A message whose JSON is well-formed and whose content is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MessageError(String);

impl MessageError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The view of that name.
///
/// # Errors
/// Names the unknown view and those that there are.
pub fn view_named(name: &str) -> Result<View, MessageError> {
    View::named(name)
        .ok_or_else(|| MessageError(format!("there is no view `{name}`; there are {}", view_names())))
}

fn view_names() -> String {
    View::ALL.map(|view| format!("`{}`", view.name())).join(", ")
}
