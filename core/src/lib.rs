//! The heart of isr-dpo: five traits, the domain types between them, and the loop.
//!
//! | to read | where |
//! |---|---|
//! | the algorithm | [`IterativeLoop`] (`src/loop`) |
//! | the five traits | [`VideoEncoder`], [`Policy`], [`Retrospector`], [`Judge`], [`PreferenceObjective`] |
//! | what else a config may swap | [`SampleSource`], [`VideoReader`], [`Selection`], [`Evaluator`], [`Observer`] |
//! | how a config names a component | [`registry`] |
//! | how a config is read | [`config`] |
//! | how a config names a plugin file | [`plugin`] |
//! | what a run leaves on disk | [`store`] |
//! | visual features that runs share | [`feature_cache`] |
//! | stages that runs share | [`stage_cache`] |
//!
//! This crate links no tensor library, starts no process, and knows no plugin by name.

mod crop;
mod encoder;
mod error;
mod fingerprint;
mod guard;
mod judge;
mod r#loop;
mod objective;
mod observer;
mod policy;
mod prompt;
mod random;
mod response;
mod retrospector;
mod sample;
mod scenes;
mod selection;
mod source;
mod supervised;
mod training;
mod video;

pub mod config;
pub mod feature_cache;
pub mod plugin;
pub mod registry;
pub mod stage_cache;
pub mod store;

pub use encoder::VideoEncoder;
pub use error::{Cause, ComponentError, Error};
pub use fingerprint::{Fingerprint, FingerprintBuilder};
pub use judge::{Judge, JudgeCase, Orders, Verdict, Vote};
pub use r#loop::{IterativeLoop, LoopParts, first_difference};
pub use objective::{
    Granularity, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements, View, ViewLogProbs,
};
pub use observer::{Event, Observer, Stage};
pub use policy::{
    Continuation, FrozenPolicy, GenerateRequest, Policy, Progress, ProgressSender, PromptedTarget,
    ScoreRequest, Snapshot, StepReport, Target, TokenLogProbs, TrainExample, TrainStep,
};
pub use prompt::{Message, Part, Prompt, Role};
pub use random::Streams;
pub use response::{FinishReason, Response, Sampling};
pub use retrospector::{RetrospectionCase, Retrospector, VisualContext};
pub use sample::{LabelledSample, Sample, SampleId};
pub use scenes::Scenes;
pub use selection::{Candidate, Decision, Selection};
pub use source::{Assessment, Demonstration, Demonstrations, Evaluator, SampleSource};
pub use supervised::{SupervisedConfig, SupervisedParts, SupervisedTraining};
pub use video::{FeatureType, Frames, Scene, VideoReader, VisualFeatures, video_key};

/// Re-exports for the code that [`register!`] writes.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use schemars;
    pub use typetag;
}
