//! The sampling temperature of requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sampling temperature of requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number, or \"omit\"")]
pub enum Temperature {
    /// The temperature that is sent.
    Value(f64),
    /// None is sent.
    Omit(Omit),
}

/// The word of [`Temperature::Omit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Omit {
    /// `"omit"`.
    Omit,
}

impl Default for Temperature {
    fn default() -> Self {
        Self::Value(0.0)
    }
}

impl Temperature {
    /// The temperature that is sent, if one is.
    pub fn value(self) -> Option<f64> {
        match self {
            Self::Value(value) => Some(value),
            Self::Omit(_) => None,
        }
    }
}
