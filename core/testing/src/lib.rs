//! Contract tests of components: one suite per trait, for built-in components and plugins, and test doubles of
//! policies.
//!
//! | suite | trait |
//! |---|---|
//! | [`judge`] | [`Judge`](isr_api::Judge) |
//! | [`retrospector`] | [`Retrospector`](isr_api::Retrospector) |
//! | [`objective`] | [`PreferenceObjective`](isr_api::PreferenceObjective) |
//! | [`encoder`] | [`VideoEncoder`](isr_api::VideoEncoder) |
//! | [`policy`] | [`Policy`](isr_api::Policy) |
//! | [`evaluator`] | [`Evaluator`](isr_api::Evaluator) |
//! | [`observer`] | [`Observer`](isr_api::Observer) |
//! | [`data`] | [`SampleSource`](isr_api::SampleSource) |
//! | [`preferences`] | [`Preferences`](isr_api::Preferences) |
//! | [`demonstrations`] | [`Demonstrations`](isr_api::Demonstrations) |
//!
//! A suite takes a component and returns the first [`Failure`] of each broken rule; an empty list means that the
//! contract holds. It takes about a second for a component without costs of its own, supplies [`FakePolicy`]
//! as policy, and survives panics. A call that does not return is abandoned after [`LONGEST_CALL`], or what
//! [`set_longest_call`] says; a thread that it blocks stays blocked.
//!
//! [`FakePolicy`] is a deterministic, trainable policy of two numbers; [`ScriptedPolicy`] replies as a test
//! dictates and records its requests; [`ThreadGroup`] is a process group in memory. [`fixtures`] has inputs.
//!
//! ```
//! use std::sync::Arc;
//! use isr_testing::{JudgeRules, judge};
//! use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
//!
//! struct Constant(f64);
//!
//! #[async_trait::async_trait]
//! impl Judge for Constant {
//!     async fn judge(&self, _: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
//!         Ok(Verdict { p_first: self.0, votes: Vec::new(), consistent: true })
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() {
//! let found = judge(Arc::new(Constant(0.9)), &JudgeRules::default()).await;
//! // It prefers the first answer in either order.
//! assert_eq!(found[0].rule, "mirrored");
//! assert!(judge(Arc::new(Constant(0.5)), &JudgeRules::default()).await.is_empty());
//! # }
//! ```

mod call;
mod dataset;
mod encoder;
mod evaluator;
mod fake_policy;
mod finding;
pub mod fixtures;
mod judge;
mod objective;
mod objective_batches;
mod observer;
mod policy;
mod retrospector;
mod scripted_policy;
mod thread_group;

pub use call::{LONGEST_CALL, calls_made, set_longest_call};
pub use dataset::{data, demonstrations, preferences};
pub use encoder::encoder;
pub use evaluator::evaluator;
pub use fake_policy::FakePolicy;
pub use finding::Failure;
pub use judge::{JudgeRules, judge};
pub use objective::{ObjectiveRules, objective};
pub use observer::observer;
pub use policy::policy;
pub use retrospector::retrospector;
pub use scripted_policy::ScriptedPolicy;
pub use thread_group::ThreadGroup;
