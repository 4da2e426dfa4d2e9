//! Sampling of judges' replies, with retries.

use isr_api::Sampling;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{bounds, sampling};

/// Sampling of a judge's replies, and retries for replies that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplyConfig {
    /// Sampling of a reply. Keys left out: temperature 0 (greedy), at most 32 tokens.
    #[serde(deserialize_with = "over_default_sampling")]
    pub sampling: Sampling,
    /// Maximum number of replies per question, each with another seed, until one can be parsed; at least 1.
    /// After the last one the sample is quarantined. Default 3.
    pub attempts: usize,
    /// Minimum temperature of the attempts after the first, more than 0, as greedy decoding would repeat the
    /// same reply. Default 0.7.
    pub retry_temperature: f64,
}

impl Default for ReplyConfig {
    fn default() -> Self {
        Self { sampling: Sampling::greedy(32), attempts: 3, retry_temperature: 0.7 }
    }
}

fn over_default_sampling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sampling, D::Error> {
    sampling::over(&ReplyConfig::default().sampling, deserializer)
}

impl ReplyConfig {
    /// Checks ranges; the message names the first value out of range.
    pub(crate) fn validate(&self) -> Result<(), String> {
        bounds::at_least_one("reply.attempts", self.attempts)?;
        bounds::positive("reply.retry_temperature", self.retry_temperature)?;
        self.sampling.validate().map_err(|reason| format!("reply.sampling.{reason}"))
    }

    /// Sampling of an attempt, counted from 0.
    pub(crate) fn sampling_of(&self, attempt: usize) -> Sampling {
        let mut sampling = self.sampling.clone();
        if attempt > 0 {
            sampling.temperature = sampling.temperature.max(self.retry_temperature);
        }
        sampling
    }
}
