//! Chat completions with token ids, as vLLM (0.32) and SGLang (0.5.23) send them.

use isr_api::{Fingerprint, FinishReason, Response};
use serde::Deserialize;

/// A chat completion of one choice.
#[derive(Deserialize)]
pub(crate) struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

/// SGLang's: which weights sampled the tokens.
#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    weight_version: Option<String>,
    /// One each for stretches of the response.
    #[serde(default)]
    weight_versions: Vec<Stretch>,
}

#[derive(Deserialize)]
struct Stretch {
    version: String,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    logprobs: Option<LogProbs>,
    #[serde(default)]
    finish_reason: Option<String>,
    /// SGLang calls them `response_token_ids`.
    #[serde(default, alias = "response_token_ids")]
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

impl Completion {
    /// # Errors
    /// Why a body is no completion, in words.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| format!("its reply is no chat completion: {error}"))
    }

    /// Weight versions that it was sampled with; none where the server does not say.
    pub(crate) fn weight_versions(&self) -> Vec<&str> {
        let Some(Metadata { weight_version, weight_versions }) = &self.metadata else { return Vec::new() };
        let stretches = weight_versions.iter().map(|stretch| stretch.version.as_str());
        weight_version.as_deref().into_iter().chain(stretches).collect()
    }

    /// Returns the response; `None` where the server has given it up. Its fingerprint is the caller's, as is the `version` of
    /// the server from which on there are token ids.
    ///
    /// # Errors
    /// What is missing or of another length, in words.
    pub(crate) fn response(self, policy: &Fingerprint, version: &str) -> Result<Option<Response>, String> {
        let Some(choice) = self.choices.into_iter().next() else {
            return Err("its reply has no choice".to_owned());
        };
        let finish_reason = match choice.finish_reason.as_deref() {
            Some("stop") => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some("abort") => return Ok(None),
            other => return Err(format!("its reply ended by {}", other.unwrap_or("nothing"))),
        };
        let Some(token_ids) = choice.token_ids else {
            let why = "its reply has no token ids, without which responses would be tokenised anew";
            return Err(format!("{why}; use {version} or later"));
        };
        let logprobs = choice.logprobs.map_or_else(Vec::new, |it| it.content);
        let logprobs: Vec<f32> = logprobs.iter().map(|token| token.logprob).collect();
        if logprobs.len() != token_ids.len() {
            let (logprobs, tokens) = (logprobs.len(), token_ids.len());
            return Err(format!("its reply has {logprobs} log-probs for {tokens} tokens"));
        }
        let text = choice.message.content.unwrap_or_default();
        Ok(Some(Response { text, token_ids, logprobs, finish_reason, policy: policy.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn choice() -> Value {
        let logprobs = json!({ "content": [{ "logprob": -1.5 }, { "logprob": -0.25 }] });
        json!({ "message": { "content": "a b" }, "logprobs": logprobs, "finish_reason": "length", "token_ids": [4, 2] })
    }

    fn read(choice: Value) -> Result<Option<Response>, String> {
        let completion = Completion::read(json!({ "choices": [choice] }).to_string().as_bytes())?;
        completion.response(&Fingerprint::of("p"), "vLLM 0.10.2")
    }

    fn with(key: &str, value: Value) -> Value {
        let mut choice = choice();
        choice[key] = value;
        choice
    }

    #[test]
    fn a_response_has_the_tokens_that_were_sampled() {
        let mut sglang = choice();
        sglang["response_token_ids"] = sglang.as_object_mut().unwrap().remove("token_ids").unwrap();
        for choice in [choice(), sglang] {
            let read = read(choice).unwrap().unwrap();
            assert_eq!(
                (read.token_ids, read.logprobs, read.finish_reason),
                (vec![4, 2], vec![-1.5, -0.25], FinishReason::Length)
            );
        }
        assert!(read(with("token_ids", json!(null))).unwrap_err().ends_with("use vLLM 0.10.2 or later"));
        assert_eq!(
            read(with("token_ids", json!([1]))).unwrap_err(),
            "its reply has 2 log-probs for 1 tokens"
        );
        assert_eq!(
            read(with("finish_reason", json!("tool_calls"))).unwrap_err(),
            "its reply ended by tool_calls"
        );
        assert_eq!(read(with("finish_reason", json!("abort"))).unwrap(), None);
        assert!(Completion::read(b"{}").err().unwrap().contains("no chat completion"));
    }

    #[test]
    fn all_weight_versions_of_a_response_are_told() {
        let versions = |metadata: Value| {
            let text = json!({ "choices": [choice()], "metadata": metadata }).to_string();
            let completion = Completion::read(text.as_bytes()).unwrap();
            completion.weight_versions().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(versions(Value::Null).is_empty() && versions(json!({})).is_empty());
        assert_eq!(versions(json!({ "weight_version": "b" })), ["b"]);
        let stretches =
            json!([{ "version": "a", "start": 0, "end": 3 }, { "version": "b", "start": 3, "end": 4 }]);
        assert_eq!(
            versions(json!({ "weight_version": "b", "weight_versions": stretches })),
            ["b", "a", "b"]
        );
    }
}
