//! Judges that ask the policy in words, and read its reply.
//!
//! Unlike the judge `self` of the method, which scores two choices, these let the policy write. They work
//! with any prompt that makes a model reason first, and cost the decoding of a reply.

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

pub(crate) use asker::unreadable;
pub(crate) use comparison::{Comparison, ComparisonParts, DEFAULT_PROMPT};
