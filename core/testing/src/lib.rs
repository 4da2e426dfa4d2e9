//! What every component of a kind must hold for: one suite a trait, for built-in components, for those of
//! plugins, and for whoever writes one.
//!
//! | suite | of |
//! |---|---|
//! | [`judge`] | [`Judge`](isr_api::Judge) |
//! | [`retrospector`] | [`Retrospector`](isr_api::Retrospector) |
//! | [`objective`] | [`PreferenceObjective`](isr_api::PreferenceObjective) |
//! | [`encoder`] | [`VideoEncoder`](isr_api::VideoEncoder) |
//! | [`policy`] | [`Policy`](isr_api::Policy) |
//!
//! Each takes a component and returns what it found wrong: the first [`Failure`] of each rule, and none
//! where the contract holds. A suite takes a second or so on a component that costs nothing itself, asks
//! [`FakePolicy`] where a policy is needed, and survives components that panic. One that never returns is
//! given up after [`LONGEST_CALL`]; a thread that it blocks stays blocked.
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
//! // Whichever answer stands first, it likes it best.
//! assert_eq!(found[0].rule, "mirrored");
//! assert!(judge(Arc::new(Constant(0.5)), &JudgeRules::default()).await.is_empty());
//! # }
//! ```

mod call;
mod encoder;
mod fake_policy;
mod finding;
pub mod fixtures;
mod judge;
mod objective;
mod objective_batches;
mod policy;
mod retrospector;
mod scripted_policy;

pub use call::LONGEST_CALL;
pub use encoder::encoder;
pub use fake_policy::FakePolicy;
pub use finding::Failure;
pub use judge::{JudgeRules, judge};
pub use objective::{ObjectiveRules, objective};
pub use policy::policy;
pub use retrospector::retrospector;
pub use scripted_policy::ScriptedPolicy;
