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
//! What crosses the boundary, and what is promised of it, is in `docs/plugins.md`. In short:
//!
//! - Calls are synchronous. A component's futures are polled on the calling thread by a plain executor, so
//!   a runtime of its own is started by the plugin that needs one. Questions to the policy that are open at
//!   the same time, as of `try_join`, are asked together.
//! - A panic in any call, in building or in dropping is caught and becomes an error with the plugin's name.
//!   A plugin that aborts ends the process; build it with `panic = "unwind"`, the default.
//! - `tracing` events go to the program's log. [`cancelled`] says whether a long call may give up.
//! - The policy that a judge or retrospector is handed answers from the program.
//!
//! | part | where |
//! |---|---|
//! | the interface, frozen | `src/interface.rs` |
//! | messages | [`isr_api::messages`]; with blobs: `src/message.rs`, `src/messages.rs`, `src/pack.rs`, `src/calls.rs` |
//! | the plugin's side | `src/export.rs`, `src/serve.rs`, `src/host_proxies.rs`, `src/batching.rs`, `src/current.rs`, `src/logging.rs` |
//! | the program's side | [`host`], and the crate `isr-native` |

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
    Progress, ProgressSender, Prompt, PromptedTarget, Requirements, Response, RetrospectionCase,
    Retrospector, Role, SampleId, Sampling, ScoreRequest, StepReport, Streams, Target, TokenLogProbs,
    TrainExample, TrainStep, Verdict, VideoEncoder, VideoInput, View, ViewLogProbs, VisualContext,
    VisualFeatures, Vote, video_key,
};
pub use tracing;

/// The version of the SDK.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Set in the copy of this crate that a library has.
static PLUGIN: AtomicBool = AtomicBool::new(false);

fn loaded_as_plugin() {
    PLUGIN.store(true, Ordering::SeqCst);
}

fn is_plugin() -> bool {
    PLUGIN.load(Ordering::SeqCst)
}

/// For the code that [`export!`] writes.
#[doc(hidden)]
pub mod __private {
    pub use abi_stable::library::LibHeader;

    pub use crate::export::{Export, Exports, export, header};
}
