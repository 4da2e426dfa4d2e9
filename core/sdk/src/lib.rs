//! Plugins for isr-dpo in Rust.
//!
//! A plugin is a `cdylib` with a config struct, the trait of a component, and one line:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//! ```
//! ```
//! use std::sync::Arc;
//! use isr_plugin::{
//!     BuildContext, Cause, Component, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict, async_trait,
//! };
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! /// Prefers the shorter answer.
//! #[derive(Debug, Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct BrevityConfig {}
//!
//! impl Component for BrevityConfig {
//!     type Built = Arc<dyn Judge>;
//!     fn build(&self, _: &BuildContext) -> Result<Arc<dyn Judge>, Cause> {
//!         Ok(Arc::new(Brevity))
//!     }
//! }
//!
//! struct Brevity;
//!
//! #[async_trait]
//! impl Judge for Brevity {
//!     async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
//!         let shorter = case.first.text.len() < case.second.text.len();
//!         Ok(Verdict { p_first: f64::from(u8::from(shorter)), votes: Vec::new(), consistent: true })
//!     }
//! }
//!
//! isr_plugin::export! {
//!     Judge "brevity" => BrevityConfig, example = "";
//! }
//! ```
//!
//! `docs/plugins.md` documents the binary interface and its compatibility. In short:
//!
//! - Calls are synchronous. A component's futures are polled on the calling thread by a plain executor: a
//!   plugin that needs an async runtime starts its own. Requests to the policy that are open at the same time,
//!   for example by `try_join`, are sent in one batch.
//! - A panic in a call, a constructor or a destructor becomes an error with the plugin's name. An abort ends the
//!   process, so build with `panic = "unwind"`, the default.
//! - `tracing` events go to the host's log. A long call polls [`cancelled`].
//! - The policy of a judge or retrospector is a proxy of the host's, within the limits of
//!   [`QuestionLimits`](isr_api::messages::QuestionLimits).
//!
//! | part | where |
//! |---|---|
//! | the binary interface, frozen | `src/interface.rs` |
//! | messages | [`isr_api::messages`]; with blobs: `src/message.rs`, `src/messages.rs`, `src/pack.rs`, `src/calls.rs` |
//! | the plugin's side | `src/export.rs`, `src/serve.rs`, `src/host_proxies.rs`, `src/batching.rs`, `src/current.rs`, `src/logging.rs` |
//! | the host's side | [`host`], and the crate `isr-native` |

mod batching;
mod calls;
mod current;
mod error;
mod export;
mod guard;
pub mod host;
mod host_proxies;
mod interface;
mod logging;
mod message;
mod messages;
mod pack;
mod serve;
#[doc(hidden)]
pub mod wire;

use std::sync::atomic::{AtomicBool, Ordering};

pub use async_trait::async_trait;
pub use current::cancelled;
pub use isr_api;
pub use isr_api::{
    BuildContext, Cause, CheckpointKind, Component, ComponentError, Continuation, FeatureType, Fingerprint,
    FingerprintBuilder, FinishReason, Frames, FrozenPolicy, GenerateRequest, Granularity, Judge, JudgeCase,
    Kind, Manifest, Message, ObjectiveBatch, ObjectiveValue, Orders, Part, Policy, PreferenceObjective,
    Progress, ProgressSender, Prompt, PromptedTarget, Reasoning, ReasoningFormat, Requirements, Response,
    RetrospectionCase, Retrospector, Role, SampleId, Sampling, ScoreRequest, StepReport, Streams, Target,
    TokenLogProbs, TrainExample, TrainStep, Verdict, VideoEncoder, VideoInput, View, ViewLogProbs,
    VisualContext, VisualFeatures, Vote, video_key,
};
pub use tracing;

/// Version of the SDK; libraries of the same `0.x` are binary compatible.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether this copy of the crate is part of a loaded library.
static PLUGIN: AtomicBool = AtomicBool::new(false);

fn loaded_as_plugin() {
    PLUGIN.store(true, Ordering::SeqCst);
}

fn is_plugin() -> bool {
    PLUGIN.load(Ordering::SeqCst)
}

/// Items that the expansion of [`export!`] names.
#[doc(hidden)]
pub mod __private {
    pub use abi_stable::library::LibHeader;

    pub use crate::export::{Export, Exports, export, header};
}
