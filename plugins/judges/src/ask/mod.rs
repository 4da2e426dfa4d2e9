//! Judges that ask the policy in words, and read its reply.
//!
//! Unlike the judge `self` of the method, which scores two choices, these let the policy write. They work
//! with any prompt that makes a model reason first, and cost the decoding of a reply.

mod asker;
mod comparison;
mod pattern;
mod pointwise;
mod reply;
mod rubric;
mod scorer;
mod verdict;

pub use pattern::Take;
pub use pointwise::PointwiseConfig;
pub use reply::ReplyConfig;
pub use rubric::{Criterion, RubricConfig};
pub use verdict::VerdictConfig;

#[cfg(feature = "http")]
pub(crate) use asker::unreadable;
#[cfg(feature = "http")]
pub(crate) use comparison::{Comparison, ComparisonParts, DEFAULT_PROMPT, shown};
