//! Judges that sample a reply from the policy and parse it.
//!
//! Unlike the judge `self`, which scores two choices, these decode text. They support prompts that make the
//! model reason first, at the cost of decoding a reply.

mod asker;
mod comparison;
mod criterion;
mod pattern;
mod pointwise;
mod reply;
mod rubric;
mod scorer;
mod verdict;

pub use criterion::Criterion;
pub use pattern::Take;
pub use pointwise::PointwiseConfig;
pub use reply::ReplyConfig;
pub use rubric::RubricConfig;
pub use verdict::VerdictConfig;

#[cfg(feature = "http")]
pub(crate) use asker::unreadable;
#[cfg(feature = "http")]
pub(crate) use comparison::{Comparison, ComparisonParts, DEFAULT_PROMPT};
