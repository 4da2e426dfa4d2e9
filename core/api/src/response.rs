//! What a policy says, and how it was made to say it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended its turn, or wrote a stop string.
    Stop,
    /// `max_new_tokens` were written.
    Length,
}

/// One sampled answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Decoded text, without special tokens.
    pub text: String,
    /// The sampled tokens; the end-of-turn token is included where the model wrote it.
    pub token_ids: Vec<u32>,
    /// Natural-log probability of each token under the policy that sampled it, at temperature 1 and
    /// without truncation of the distribution, whatever the sampling was. So they serve as the
    /// reference's log-probs in training. Same length as `token_ids`.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Fingerprint of the weights that sampled it.
    pub policy: Fingerprint,
}

/// How to draw tokens. The order of operations is that of transformers' `generate`: temperature,
/// then top-k, then top-p.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Softmax temperature; 0 takes the most probable token (greedy decoding). Default 1.
    pub temperature: f64,
    /// Keep the smallest set of tokens whose probability reaches this, in (0, 1]. Default 1 (all).
    pub top_p: f64,
    /// Keep this many of the most probable tokens; 0 keeps all. Default 0.
    pub top_k: usize,
    /// Longest answer in tokens, end-of-turn token included. Default 256.
    pub max_new_tokens: usize,
    /// Strings that end the answer; they are cut from the text. Default none.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0, max_new_tokens: 256, stop: Vec::new() }
    }
}

impl Sampling {
    /// Greedy decoding of at most `max_new_tokens`.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, max_new_tokens, ..Self::default() }
    }

    /// Names the first value that is out of range.
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
