//! Chat completions of vLLM with token ids.

use isr_api::{Fingerprint, FinishReason, Response};
use serde::Deserialize;

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    logprobs: Option<LogProbs>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct LogProbs {
    #[serde(default)]
    content: Vec<TokenLogProb>,
}

#[derive(Deserialize)]
struct TokenLogProb {
    logprob: f32,
}

/// Reads the response in a completion; its fingerprint is the caller's.
///
/// # Errors
/// What is missing or of another length, in words.
pub(crate) fn response(body: &[u8], policy: &Fingerprint) -> Result<Response, String> {
    let completion: Completion = serde_json::from_slice(body)
        .map_err(|error| format!("its reply is no chat completion: {error}"))?;
    let Some(choice) = completion.choices.into_iter().next() else {
        return Err("its reply has no choice".to_owned());
    };
    let token_ids = choice.token_ids.ok_or(
        "its reply has no token ids, without which responses would be tokenised anew; use vLLM 0.10.2 or later",
    )?;
    let logprobs: Vec<f32> =
        choice.logprobs.map_or_else(Vec::new, |it| it.content.iter().map(|token| token.logprob).collect());
    if logprobs.len() != token_ids.len() {
        return Err(format!("its reply has {} log-probs for {} tokens", logprobs.len(), token_ids.len()));
    }
    let finish_reason = match choice.finish_reason.as_deref() {
        Some("stop") => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        other => return Err(format!("its reply ended by {}", other.unwrap_or("nothing"))),
    };
    let text = choice.message.content.unwrap_or_default();
    Ok(Response { text, token_ids, logprobs, finish_reason, policy: policy.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_response_has_the_tokens_that_were_sampled() {
        let reply = |choice: serde_json::Value| {
            response(json!({ "choices": [choice] }).to_string().as_bytes(), &Fingerprint::of("p"))
        };
        let logprobs = json!({ "content": [{ "logprob": -1.5 }, { "logprob": -0.25 }] });
        let whole = json!({ "message": { "content": "a b" }, "logprobs": logprobs, "finish_reason": "length", "token_ids": [4, 2] });
        let read = reply(whole.clone()).unwrap();
        assert_eq!(
            (read.token_ids, read.logprobs, read.finish_reason),
            (vec![4, 2], vec![-1.5, -0.25], FinishReason::Length)
        );
        let without = |key: &str, value: serde_json::Value| {
            let mut choice = whole.clone();
            choice[key] = value;
            reply(choice).unwrap_err()
        };
        assert!(without("token_ids", json!(null)).contains("vLLM 0.10.2"));
        assert_eq!(without("token_ids", json!([1])), "its reply has 2 log-probs for 1 tokens");
        assert_eq!(without("finish_reason", json!("abort")), "its reply ended by abort");
        assert!(response(b"{}", &Fingerprint::of("p")).unwrap_err().contains("no chat completion"));
    }
}
