//! Chat completions with token ids, as vLLM (0.32) and SGLang (0.5.23) send them.

use isr_api::{Fingerprint, FinishReason, Reasoning, ReasoningFormat, Response};
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
    /// Reasoning, where the server runs a reasoning parser; older versions call it `reasoning_content`.
    #[serde(default, alias = "reasoning_content")]
    reasoning: Option<String>,
}

#[derive(Deserialize)]
struct LogProbs {
    #[serde(default)]
    content: Vec<TokenLogProb>,
}

#[derive(Deserialize)]
struct TokenLogProb {
    /// Text of the token, that of special tokens included.
    #[serde(default)]
    token: String,
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
    /// the server from which on there are token ids. Reasoning of the policy's form is separated, whether the server runs a
    /// reasoning parser or not.
    ///
    /// # Errors
    /// What is missing or of another length, in words.
    pub(crate) fn response(
        self,
        policy: &Fingerprint,
        version: &str,
        format: Option<&ReasoningFormat>,
    ) -> Result<Option<Response>, String> {
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
        let tokens = choice.logprobs.map_or_else(Vec::new, |it| it.content);
        let logprobs: Vec<f32> = tokens.iter().map(|token| token.logprob).collect();
        if logprobs.len() != token_ids.len() {
            let (logprobs, tokens) = (logprobs.len(), token_ids.len());
            return Err(format!("its reply has {logprobs} log-probs for {tokens} tokens"));
        }
        let Message { content, reasoning: parsed } = choice.message;
        let (text, policy) = (content.unwrap_or_default(), policy.clone());
        let response = Response { text, token_ids, logprobs, finish_reason, policy, reasoning: None };
        let parsed = parsed.filter(|reasoning| !reasoning.is_empty());
        let format = match (format, &parsed) {
            (None, None) => return Ok(Some(response)),
            // What the parser has found is reasoning, whoever opened it.
            (format, Some(_)) => ReasoningFormat { opened: true, ..format.cloned().unwrap_or_default() },
            (Some(format), None) => format.clone(),
        };
        let tokens: Vec<String> = tokens.into_iter().map(|token| token.token).collect();
        separated(response, parsed, &tokens, &format).map(Some)
    }
}

/// Separates the reasoning of a response by the texts of its tokens: the content may lack markers that are special tokens.
fn separated(
    response: Response,
    parsed: Option<String>,
    tokens: &[String],
    format: &ReasoningFormat,
) -> Result<Response, String> {
    let content = response.text.clone();
    let whole = Response { text: tokens.concat(), ..response.clone() };
    let by_tokens = format.separate(whole, |count| Ok::<_, String>(tokens[..count].concat()))?;
    let Some(found) = by_tokens.reasoning else { return Ok(response) };
    let ends = found.tokens < tokens.len() || !by_tokens.text.is_empty();
    let in_content = format.split(&content).filter(|split| split.answer.is_some());
    let answer = match (&parsed, in_content.and_then(|split| split.answer)) {
        (Some(_), _) => content.trim(),
        (None, Some(answer)) => answer,
        (None, None) if ends => {
            content.trim().strip_prefix(found.text.as_str()).map_or(by_tokens.text.as_str(), str::trim)
        }
        (None, None) => "",
    };
    if !ends && !answer.is_empty() {
        return Err(format!(
            "its reply does not say which token ends the reasoning (`{}`); start the server without \
             --return-tokens-as-token-ids",
            format.markers.close
        ));
    }
    let text = parsed.map_or(found.text, |parsed| parsed.trim().to_owned());
    let reasoning = Some(Reasoning { text, tokens: found.tokens });
    Ok(Response { text: answer.to_owned(), reasoning, ..response })
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
        completion.response(&Fingerprint::of("p"), "vLLM 0.10.2", None)
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

    /// What vLLM 0.11 to 0.32 send for one sampled sequence, with and without `--reasoning-parser`, and where the markers are
    /// special tokens, which the content leaves out.
    #[test]
    fn reasoning_is_separated_with_and_without_a_parser_of_the_server() {
        let tokens = |tokens: &[&str]| {
            let content: Vec<_> =
                tokens.iter().map(|token| json!({ "token": token, "logprob": -0.5 })).collect();
            json!({ "content": content })
        };
        let read = |message: serde_json::Value,
                    texts: &[&str],
                    opened: bool,
                    reason: &str|
         -> Result<Response, String> {
            let ids: Vec<usize> = (0..texts.len()).collect();
            let choice = json!({ "message": message, "logprobs": tokens(texts), "finish_reason": reason, "token_ids": ids });
            let body = json!({ "choices": [choice] }).to_string();
            let format = ReasoningFormat { opened, ..ReasoningFormat::default() };
            let completion = Completion::read(body.as_bytes())?;
            Ok(completion.response(&Fingerprint::of("p"), "vLLM 0.10.2", Some(&format))?.unwrap())
        };
        let own = ["<think>", "\n", "hm", "\n", "</think>", "\n\n", "Up", ".", "<|im_end|>"];
        for (message, texts, opened) in [
            (json!({ "content": "<think>\nhm\n</think>\n\nUp." }), &own[..], false),
            (json!({ "content": "hm\n</think>\n\nUp." }), &own[2..], true),
            (json!({ "content": "\n\nUp.", "reasoning": "\nhm\n" }), &own[..], false),
            (json!({ "content": "\n\nUp.", "reasoning_content": "hm\n" }), &own[2..], true),
            (json!({ "content": "\nhm\n\n\nUp." }), &own[..], false),
        ] {
            let said = read(message.clone(), texts, opened, "stop").unwrap();
            assert_eq!(said.text, "Up.", "{message}");
            assert_eq!(said.token_ids.len(), texts.len());
            let reasoning = said.reasoning.unwrap();
            assert_eq!((&*reasoning.text, reasoning.tokens), ("hm", texts.len() - 4), "{message}");
        }
        for (message, opened) in [
            (json!({ "content": "<think>\nhm" }), false),
            (json!({ "content": null, "reasoning": "\nhm" }), false),
            (json!({ "content": "\nhm" }), true),
        ] {
            let said = read(message, &own[..3], opened, "length").unwrap();
            assert!(said.is_unanswered() && said.answer_tokens() == 0, "{said:?}");
        }
        let plain = read(json!({ "content": "Up." }), &own[6..], false, "stop").unwrap();
        assert_eq!((&*plain.text, plain.reasoning), ("Up.", None));
        let named = ["token_id:1", "token_id:2"];
        let error =
            read(json!({ "content": "Up.", "reasoning": "hm" }), &named, false, "stop").unwrap_err();
        assert!(error.contains("--return-tokens-as-token-ids"), "{error}");
    }
}
