//! How replies are drawn, and drawn again.

use isr_api::Sampling;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{bounds, sampling};

/// How a judge's replies are drawn, and drawn again where one cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplyConfig {
    /// How a reply is drawn. Values left out: temperature 0 (greedy), at most 32 tokens.
    #[serde(deserialize_with = "over_default_sampling")]
    pub sampling: Sampling,
    /// How often a case is asked, each time with another seed, until a reply can be read; at least 1. Then
    /// the sample is quarantined. Default 3.
    pub attempts: usize,
    /// Temperature of the attempts after the first, more than 0; greedy decoding would say the same again.
    /// A higher temperature of `sampling` is kept. Default 0.7.
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
    /// Names the first value that is out of range.
    pub(crate) fn validate(&self) -> Result<(), String> {
        bounds::at_least_one("reply.attempts", self.attempts)?;
        bounds::positive("reply.retry_temperature", self.retry_temperature)?;
        self.sampling.validate().map_err(|reason| format!("reply.sampling.{reason}"))
    }

    /// How the reply of an attempt is drawn, counted from 0.
    pub(crate) fn sampling_of(&self, attempt: usize) -> Sampling {
        let mut sampling = self.sampling.clone();
        if attempt > 0 {
            sampling.temperature = sampling.temperature.max(self.retry_temperature);
        }
        sampling
    }
}
