//! Judges, judges made of judges, and selections of pairs.
//!
//! | component | what it does | where |
//! |---|---|---|
//! | judge `random`, `length`, `rule` | ask no model | `baseline/` |
//! | judge `verdict`, `pointwise`, `rubric` | ask the policy and read its reply | `ask/` |
//! | judge `http` | asks a model behind a server | `http/` |
//! | judge `both_orders`, `majority`, `ensemble`, `cascade`, `length_debiased`, `abstain`, `veto` | are made of judges | `combine/` |
//! | selection `top_k`, `balanced_lengths`, `deduplicate`, `chain` | choose among judged pairs | `selection/` |
//!
//! # What a verdict means here
//! - A probability of exactly one half takes no side; selections drop it as `no preference`. Votes agree
//!   where no two of them take opposite sides.
//! - A reply that cannot be read is [`ComponentError::BadInput`](isr_core::ComponentError::BadInput), never
//!   one half.
//! - Draws belong to the answers, not to their places: the same case with the answers swapped gets the
//!   mirrored verdict, except from a judge that is told to show one order only.

mod agreement;
mod ask;
mod baseline;
mod bounds;
mod combine;
mod error;
mod http;
mod odds;
mod selection;

pub use ask::{Criterion, PointwiseConfig, ReplyConfig, RubricConfig, Take, VerdictConfig};
pub use baseline::{Distribution, LengthJudgeConfig, Preferred, RandomJudgeConfig, Rule, RuleJudgeConfig};
pub use combine::{
    AbstainConfig, BothOrdersConfig, CascadeConfig, EnsembleConfig, EnsembleMember, LengthDebiasedConfig,
    MajorityConfig, VetoConfig,
};
pub use error::JudgeError;
pub use http::{BudgetConfig, FramesConfig, HttpJudgeConfig, PricesConfig};
pub use selection::{BalancedLengthsConfig, ChainConfig, DeduplicateConfig, TopKConfig};
