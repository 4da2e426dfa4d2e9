//! Responses of the policy, and the sampling parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::policy::check_log_probs;
use crate::reasoning::Reasoning;

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
    /// Decoded text of the answer, without special tokens and without the [`reasoning`](Self::reasoning) before it.
    pub text: String,
    /// Sampled tokens, reasoning included, and the end-of-turn token if the model produced it.
    pub token_ids: Vec<u32>,
    /// Natural-log probability of each token under the policy that sampled it, at temperature 1 and without
    /// truncation (top-k, top-p), whatever the sampling parameters. They serve as reference log-probs in
    /// training. Same length as `token_ids`.
    pub logprobs: Vec<f32>,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Fingerprint of the policy that sampled it.
    pub policy: Fingerprint,
    /// What the model wrote before its answer, as between `<think>` and `</think>`; absent from JSON if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Reasoning>,
}

impl Response {
    /// Checks that there is one log-prob a token, a finite number of at most 0 but for rounding, and that reasoning has no
    /// more tokens than the response.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence: `has 3 log-probs for 4 tokens`.
    pub fn check(&self) -> Result<(), String> {
        let tokens = self.token_ids.len();
        match self.reasoning.as_ref().filter(|reasoning| reasoning.tokens > tokens) {
            Some(Reasoning { tokens: reasoned, .. }) => {
                Err(format!("has {reasoned} tokens of reasoning among {tokens}"))
            }
            None => check_log_probs(&self.token_ids, &self.logprobs),
        }
    }

    /// Returns the number of tokens behind the reasoning, the end-of-turn token included.
    pub fn answer_tokens(&self) -> usize {
        self.token_ids.len() - self.reasoned_tokens()
    }

    /// Returns whether the model reasoned and gave no answer, as where the length limit ended its reasoning.
    pub fn is_unanswered(&self) -> bool {
        self.reasoning.is_some() && self.text.trim().is_empty()
    }

    /// Returns the answer without its reasoning, its text and its tokens: what judges and selections are shown.
    #[must_use]
    pub fn answer_alone(&self) -> Self {
        let begin = self.reasoned_tokens();
        Self {
            text: self.text.clone(),
            token_ids: self.token_ids[begin..].to_vec(),
            logprobs: self.logprobs[begin.min(self.logprobs.len())..].to_vec(),
            finish_reason: self.finish_reason,
            policy: self.policy.clone(),
            reasoning: None,
        }
    }

    fn reasoned_tokens(&self) -> usize {
        self.reasoning.as_ref().map_or(0, |reasoning| reasoning.tokens).min(self.token_ids.len())
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
