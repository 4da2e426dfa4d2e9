//! The method: iterative self-retrospective judgment (ISR-DPO, arXiv 2406.11280).
//!
//! | component | what it does | in the paper |
//! |---|---|---|
//! | retrospector `self` | the policy describes the video with its previous description in view | `c_t ~ pi_t(V, c_{t-1})` |
//! | judge `self` | the same policy says which of two answers is better, with that description in view | `p(y1 > y2 \| V, x, c_t)` |
//! | selection `consistent` | keeps the pairs on which both orders of showing agree | ours |
//!
//! A model that judges its own answers leans on language: it prefers what sounds likely, and what is
//! long. The description grounds the judgment in the video, and writing it with its predecessor in
//! view lets it be corrected from iteration to iteration instead of starting anew.
//!
//! # What is the paper's, and what is ours
//! The paper gives the conditioning of `c_t` and of the verdict, and that one and the same model plays
//! all parts. It does not publish its prompts, how a verdict is read from the model, whether both orders
//! are shown, how contexts are sampled, or what `c_0` is. So these are ours, and config values: natural
//! English prompts, probabilities of the two choices instead of a sampled reply, both orders, greedy
//! descriptions, and no `c_0` (the first description is written from the video alone).
//!
//! # Ablations by config
//! | arm | setting |
//! |---|---|
//! | no retrospection | `retrospector.use_previous = false` |
//! | self-rewarding: judge without context | `judge.use_context = false` |
//! | judge reads the description only | `judge.video = false` |
//! | control: the description is another video's | `loop.mismatched_contexts = true` |
//! | control: the description says nothing | `retrospector.type = "fixed"` |
//! | position bias left in | `judge.orders = "given"` |
//!
//! # Prompts
//! Prompts are Jinja templates; `isr_template` says how they are read.

mod error;
mod fixed;
mod judge;
mod retrospector;
mod selection;

pub use error::MethodError;
pub use fixed::{FixedRetrospector, FixedRetrospectorConfig};
pub use isr_core::Orders;
pub use judge::{SelfJudge, SelfJudgeConfig};
pub use retrospector::{SelfRetrospector, SelfRetrospectorConfig};
pub use selection::{ConsistentSelection, ConsistentSelectionConfig};
