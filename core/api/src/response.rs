//! Responses of the policy, and the sampling parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::policy::check_log_probs;

/// The reason why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model produced the end-of-turn token or a stop string.
    Stop,
    /// The limit `max_new_tokens` was reached.
    Length,
}

/// One response sampled from the policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Decoded text, without special tokens.
    pub text: String,
    /// Sampled tokens, including the end-of-turn token if the model produced it.
    pub token_ids: Vec<u32>,
    /// Natural-log probability of each token under the policy that sampled it, at temperature 1 and without
    /// truncation (top-k, top-p), whatever the sampling parameters. They serve as reference log-probs in
    /// training. Same length as `token_ids`.
    pub logprobs: Vec<f32>,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Fingerprint of the policy that sampled it.
    pub policy: Fingerprint,
}

impl Response {
    /// Checks that there is one log-prob a token, a finite number of at most 0 but for rounding.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence: `has 3 log-probs for 4 tokens`.
    pub fn check(&self) -> Result<(), String> {
        check_log_probs(&self.token_ids, &self.logprobs)
    }
}

/// Sampling parameters. Applied in the order of transformers' `generate`: temperature, then top-k, then top-p.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Softmax temperature; 0 is greedy decoding. Default 1.
    pub temperature: f64,
    /// Nucleus sampling: keep the smallest set of tokens whose cumulative probability reaches this, in (0, 1].
    /// Default 1 (off).
    pub top_p: f64,
    /// Keep this many of the most probable tokens. Default 0 (off).
    pub top_k: usize,
    /// Maximum response length in tokens, including the end-of-turn token. Default 256.
    pub max_new_tokens: usize,
    /// Strings that end the response; they are removed from the text. Default none.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0, max_new_tokens: 256, stop: Vec::new() }
    }
}

impl Sampling {
    /// Creates the parameters of greedy decoding with this length limit.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, max_new_tokens, ..Self::default() }
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// A message that begins with the key of the first invalid value.
    pub fn validate(&self) -> Result<(), String> {
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return Err(format!("temperature is {}; it must be 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!("top_p is {}; it must be in (0, 1]", self.top_p));
        }
        if self.max_new_tokens == 0 {
            return Err("max_new_tokens is 0; it must be at least 1".to_owned());
        }
        if self.stop.iter().any(String::is_empty) {
            return Err("stop has an empty string, which would end every answer at once".to_owned());
        }
        Ok(())
    }
}

/// Returns the part of a reply behind its reasoning (`</think>`), which is no part of the answer; `None` if the
/// reasoning does not end.
pub fn without_reasoning(reply: &str) -> Option<&str> {
    match reply.rsplit_once("</think>") {
        Some((_, answer)) => Some(answer),
        None => (!reply.trim_start().starts_with("<think>")).then_some(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_the_reasoning_is_read() {
        assert_eq!(without_reasoning("A"), Some("A"));
        assert_eq!(without_reasoning("<think>A? No.</think>\nB"), Some("\nB"));
        // Templates that open the reasoning themselves.
        assert_eq!(without_reasoning("A? No.</think>B"), Some("B"));
        assert_eq!(without_reasoning(" <think>A it is, or B"), None);
    }
}
