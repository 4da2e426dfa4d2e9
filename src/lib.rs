//! Iterative preference optimisation of video LMMs, for programs that embed it.
//!
//! Joins the traits ([`isr_api`]), the config engine ([`isr_config`]), the loop ([`isr_run`]) and all components
//! of this repository, so that a config can name them, and opens runs. `examples/embedder` runs the loop inside
//! another program, with a judge of its own.
//!
//! ```no_run
//! use isr_dpo::{Event, Run};
//!
//! # async fn run() -> Result<(), isr_dpo::Error> {
//! let run = Run::builder("configs/quickstart.toml")
//!     .observer(|event: &Event<'_>| println!("{event:?}"))
//!     .open("runs/mine")
//!     .await?;
//! let summary = run.run().await?;
//! println!("{} iterations", summary.iterations.len());
//! # Ok(())
//! # }
//! ```
//!
//! | to do | with |
//! |---|---|
//! | read a config | [`config::Loader`] |
//! | run the loop, or continue a run, with components of a config or given as values | [`Run::builder`] |
//! | train on preference pairs that exist already | [`DpoRunConfig`], [`Run::builder`] |
//! | run the loop in several processes | [`RunBuilder::processes`] |
//! | share stages among runs | [`stage_cache()`] |
//! | warm-start a model | [`SftConfig`], [`open_sft`] |
//! | make a report | [`write_report`] |
//! | score predictions on question sets | [`questions::Scorer`], [`questions::mark_set`] |
//! | measure a run's judges, or judge its answers again | [`audit_run`], [`open_rejudging`] |
//! | write the pairs for other trainers | [`write_export`] |
//! | declare a component of your own | [`register!`] |
//!
//! # Files of a run that differ between equal runs
//! `provenance.json` (command, time, machine), `timings.jsonl` (seconds), and `report.html`, which shows
//! the former. All others are the same bytes on the same CPU.

mod command_line;
mod components;
mod dpo;
#[cfg(feature = "questions")]
mod evaluation;
mod preflight;
mod provenance;
#[cfg(feature = "analysis")]
mod rejudge;
mod run;
#[cfg(feature = "torch")]
mod sft;
mod shared;
mod timings;

pub use dpo::{DpoRunConfig, ScoringConfig};
#[cfg(feature = "questions")]
pub use evaluation::{EvaluateConfig, EvaluatedModelConfig, GenerationConfig, QuestionSetConfig};
#[cfg(feature = "analysis")]
pub use isr_analysis::audit::{
    Agreement, AuditError, Failures, JudgeAudit, Length, Position, Rejudging, RunAudit, Slope,
};
#[cfg(feature = "analysis")]
pub use isr_analysis::export::{Export, ExportError, Exported, Format as ExportFormat};
#[cfg(feature = "analysis")]
pub use isr_analysis::from_config::{Audited, audit_run, write_export, write_report};
pub use isr_api::{
    Assessment, BuildContext, Candidate, Cause, CheckpointKind, Component, ComponentError, Continuation,
    Decision, Demonstration, Demonstrations, Error, Evaluator, Event, FeatureType, Fingerprint,
    FingerprintBuilder, FinishReason, Frames, FrozenPolicy, GenerateRequest, Granularity, Judge, JudgeCase,
    Kind, LabelledSample, Manifest, Message, ObjectiveBatch, ObjectiveValue, Observer, Orders, Part,
    Policy, Preference, PreferenceObjective, Preferences, ProcessGroup, Progress, ProgressSender, Prompt,
    PromptedTarget, Reasoning, ReasoningFormat, ReasoningMarkers, Requirements, Response,
    RetrospectionCase, Retrospector, Role, Sample, SampleId, SampleSource, Sampling, ScoreRequest,
    Selection, Stage, StepReport, Streams, Target, TokenLogProbs, TrainExample, TrainStep, Turn,
    UnusableRow, Verdict, VideoEncoder, VideoInput, VideoReader, View, ViewLogProbs, VisualContext,
    VisualFeatures, Vote, records, video_key,
};
pub use isr_config::{self as config, plugin, register, register_loader, registry};
#[cfg(feature = "data")]
pub use isr_data as data;
#[cfg(feature = "judges")]
pub use isr_judges as judges;
#[cfg(feature = "objectives")]
pub use isr_objectives as objectives;
#[cfg(feature = "questions")]
pub use isr_questions as questions;
pub use isr_run::{
    ComponentValues, Components, IterativeLoop, LoopParts, OfflineOnly, PreferenceData, SupervisedParts,
    SupervisedTraining, VideoCache, feature_cache, first_difference, store,
};
#[cfg(feature = "torch")]
pub use isr_torch as torch;
#[cfg(feature = "torch")]
pub use isr_torch::{InspectConfig, Inspection, NewModelConfig, TorchPolicyConfig, inspect, merge};
#[cfg(feature = "video")]
pub use isr_video as video;
#[cfg(feature = "video")]
pub use isr_video::FfmpegConfig;
#[cfg(feature = "world")]
pub use isr_world as world;
#[cfg(feature = "analysis")]
pub use rejudge::{AuditConfig, audit_dir, open_rejudging};
pub use run::{ConfigSource, Run, RunBuilder};
#[cfg(feature = "torch")]
pub use sft::{SftConfig, open_sft};
pub use shared::stage_cache;
pub use timings::TimingsObserver;
/// Stops a run from outside.
pub use tokio_util::sync::CancellationToken;
