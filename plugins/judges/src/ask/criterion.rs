//! Criteria of the judge `rubric`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One criterion of a rubric, scored by a reply of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Name, unique within the rubric; the prompt's `criterion`. Required.
    pub name: String,
    /// Explanation for the policy; the prompt's `description`. Default empty.
    #[serde(default)]
    pub description: String,
    /// Weight in the mean over criteria, more than 0. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl Criterion {
    /// Creates a criterion.
    pub fn named(name: &str, description: &str, weight: f64) -> Self {
        Self { name: name.to_owned(), description: description.to_owned(), weight }
    }
}
