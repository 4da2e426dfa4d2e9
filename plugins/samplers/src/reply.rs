//! Chat completions of vLLM with token ids.

use isr_api::{Fingerprint, FinishReason, Reasoning, ReasoningFormat, Response};
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

/// Reads the response in a completion; its fingerprint is the caller's. Reasoning of the policy's form is separated, whether the
/// server runs a reasoning parser or not.
///
/// # Errors
/// What is missing or of another length, in words.
pub(crate) fn response(
    body: &[u8],
    policy: &Fingerprint,
    format: Option<&ReasoningFormat>,
) -> Result<Response, String> {
    let completion: Completion = serde_json::from_slice(body)
        .map_err(|error| format!("its reply is no chat completion: {error}"))?;
    let Some(choice) = completion.choices.into_iter().next() else {
        return Err("its reply has no choice".to_owned());
    };
    let token_ids = choice.token_ids.ok_or(
        "its reply has no token ids, without which responses would be tokenised anew; use vLLM 0.10.2 or later",
    )?;
    let tokens = choice.logprobs.map_or_else(Vec::new, |it| it.content);
    let logprobs: Vec<f32> = tokens.iter().map(|token| token.logprob).collect();
    if logprobs.len() != token_ids.len() {
        return Err(format!("its reply has {} log-probs for {} tokens", logprobs.len(), token_ids.len()));
    }
    let finish_reason = match choice.finish_reason.as_deref() {
        Some("stop") => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        other => return Err(format!("its reply ended by {}", other.unwrap_or("nothing"))),
    };
    let Message { content, reasoning: parsed } = choice.message;
    let (text, policy) = (content.unwrap_or_default(), policy.clone());
    let response = Response { text, token_ids, logprobs, finish_reason, policy, reasoning: None };
    let parsed = parsed.filter(|reasoning| !reasoning.is_empty());
    let format = match (format, &parsed) {
        (None, None) => return Ok(response),
        // What the parser has found is reasoning, whoever opened it.
        (format, Some(_)) => ReasoningFormat { opened: true, ..format.cloned().unwrap_or_default() },
        (Some(format), None) => format.clone(),
    };
    let tokens: Vec<String> = tokens.into_iter().map(|token| token.token).collect();
    separated(response, parsed, &tokens, &format)
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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_response_has_the_tokens_that_were_sampled() {
        let reply = |choice: serde_json::Value| {
            response(json!({ "choices": [choice] }).to_string().as_bytes(), &Fingerprint::of("p"), None)
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
        assert!(response(b"{}", &Fingerprint::of("p"), None).unwrap_err().contains("no chat completion"));
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
        let read = |message: serde_json::Value, texts: &[&str], opened: bool, reason: &str| {
            let ids: Vec<usize> = (0..texts.len()).collect();
            let choice = json!({ "message": message, "logprobs": tokens(texts), "finish_reason": reason, "token_ids": ids });
            let body = json!({ "choices": [choice] }).to_string();
            let format = ReasoningFormat { opened, ..ReasoningFormat::default() };
            response(body.as_bytes(), &Fingerprint::of("p"), Some(&format))
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
