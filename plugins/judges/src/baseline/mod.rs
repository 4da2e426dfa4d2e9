//! Judges without a model: controls and hand-written rules.

mod length;
mod random;
mod rule;
mod rules;

pub use length::{LengthJudgeConfig, Preferred};
pub use random::{Distribution, RandomJudgeConfig};
pub use rule::RuleJudgeConfig;
pub use rules::Rule;

pub(crate) use rules::Rules;
