//! Responses in journals: which to one sample are compared, and their lengths without their tokens.

use isr_api::{Fingerprint, FinishReason, Response};
use serde::Deserialize;

use super::count_elements;

/// A [`Response`] as read from a journal, with the number of its tokens in their place.
#[derive(Clone, Debug, Deserialize)]
pub struct CountedResponse {
    /// Text of the answer.
    pub text: String,
    /// Number of tokens, those of the reasoning included.
    #[serde(rename = "token_ids", deserialize_with = "count_elements")]
    pub tokens: usize,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Fingerprint of the policy that sampled it.
    pub policy: Fingerprint,
    /// Length of the reasoning before the answer, if there is any.
    #[serde(default)]
    pub reasoning: Option<CountedReasoning>,
}

/// Length of a [`Reasoning`](isr_api::Reasoning).
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct CountedReasoning {
    /// Number of tokens, markers included.
    pub tokens: usize,
}

impl CountedResponse {
    /// As [`Response::answer_tokens`].
    pub fn answer_tokens(&self) -> usize {
        self.tokens.saturating_sub(self.reasoning.map_or(0, |reasoning| reasoning.tokens))
    }

    /// As [`Response::is_unanswered`].
    pub fn is_unanswered(&self) -> bool {
        self.reasoning.is_some() && self.text.trim().is_empty()
    }
}

/// Indices of the two responses that are compared where only two are: the first, and the first whose text
/// differs from it. `None` where all texts are equal up to surrounding white space; responses that reason and give no
/// answer are left out.
pub fn first_difference(responses: &[Response]) -> Option<[usize; 2]> {
    match *distinct_responses(responses) {
        [one, other, ..] => Some([one, other]),
        _ => None,
    }
}

/// Indices of the answered responses with distinct texts, up to surrounding white space; of equal texts the first.
pub(crate) fn distinct_responses(responses: &[Response]) -> Vec<usize> {
    let text = |at: usize| responses[at].text.trim();
    let mut distinct: Vec<usize> = Vec::new();
    for at in (0..responses.len()).filter(|&at| !responses[at].is_unanswered()) {
        if distinct.iter().all(|&other| text(other) != text(at)) {
            distinct.push(at);
        }
    }
    distinct
}
