//! Traits and domain types of isr-dpo: what a component implements, and what it exchanges with the loop.
//!
//! | topic | items |
//! |---|---|
//! | components of the algorithm | [`VideoEncoder`], [`Policy`], [`Retrospector`], [`Judge`], [`PreferenceObjective`] |
//! | components around it | [`SampleSource`], [`VideoReader`], [`Selection`], [`Evaluator`], [`Demonstrations`], [`Preferences`], [`Observer`] |
//! | configuration and listing of components | [`Component`], [`BuildContext`], [`Kind`], [`Manifest`] |
//! | file formats of a run directory | [`records`] |
//! | seeded random streams | [`Streams`] |
//! | messages to components in libraries, processes and sandboxes | [`messages`] |
//! | errors | [`ComponentError`] of components, [`Error`] of runs |
//!
//! The crate links no tensor library, reads no config file and runs no loop; `isr-config` and `isr-run` build on
//! it. The Rust SDK for plugins (`isr-plugin`) depends on this crate alone.

mod choice;
mod component;
mod encoder;
mod error;
mod fingerprint;
mod judge;
pub mod messages;
mod objective;
mod observer;
mod policy;
mod preferences;
mod process_group;
mod prompt;
mod random;
mod reasoning;
pub mod records;
mod response;
mod retrospector;
mod sample;
mod sampler;
mod selection;
mod source;
mod span;
mod training;
mod video;

pub use choice::{Choice, ChoiceCounts};
pub use component::{BuildContext, Component, Kind, Manifest, first_sentence};
pub use encoder::VideoEncoder;
pub use error::{Cause, ComponentError, Error};
pub use fingerprint::{Fingerprint, FingerprintBuilder};
pub use judge::{Judge, JudgeCase, Orders, Verdict, Vote};
pub use objective::{
    Granularity, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements, View, ViewLogProbs,
};
pub use observer::{Event, Observer, Stage};
pub use policy::{
    CheckpointKind, Continuation, FrozenPolicy, GenerateRequest, Policy, Progress, ProgressSender,
    PromptedTarget, ScoreRequest, StepReport, Target, TokenLogProbs, TrainExample, TrainStep,
};
pub use preferences::{Preference, Preferences, UnusableRow};
pub use process_group::{ProcessGroup, SingleProcess};
pub use prompt::{Message, Part, Prompt, Role, Turn};
pub use random::Streams;
pub use reasoning::{
    ReasonedText, Reasoning, ReasoningFormat, ReasoningMarkers, partial_end, without_reasoning,
};
pub use response::{FinishReason, Response, Sampling};
pub use retrospector::{RetrospectionCase, Retrospector, VisualContext};
pub use sample::{LabelledSample, Sample, SampleId};
pub use sampler::Sampler;
pub use selection::{Candidate, Decision, Selection};
pub use source::{Assessment, Demonstration, Demonstrations, Evaluator, SampleSource};
pub use span::VideoSpan;
pub use training::ScoreDrift;
pub use video::{FeatureType, Frames, VideoInput, VideoReader, VisualFeatures, video_key};
