//! Scorers: what decides whether a prediction is right.

mod config;
mod evaluator;
mod local;
mod marker;
mod prompt;
mod python;
mod reading;

pub use self::config::{Form, ScorerConfig, ScorerKind, Unparsed};
pub use self::marker::{Case, Mark, Scorer};
pub use self::reading::Reading;
