//! Replies: `chat.completion` and `chat.completion.chunk` of the OpenAI API.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response as HttpResponse};
use isr_api::{FinishReason, Response};
use serde_json::{Value, json};

/// Fields shared by all chunks of one reply.
#[derive(Clone, Debug)]
pub(crate) struct ReplyHead {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

impl ReplyHead {
    pub(crate) fn new(model: &str) -> Self {
        let id = format!("chatcmpl-{:032x}", rand::random::<u128>());
        Self { id, created: now(), model: model.to_owned() }
    }

    fn object(&self, kind: &str, choices: &Value) -> Value {
        let Self { id, created, model } = self;
        json!({ "id": id, "object": kind, "created": created, "model": model, "choices": choices })
    }

    /// The whole reply.
    pub(crate) fn completion(
        &self,
        responses: &[Response],
        prompt_tokens: Option<usize>,
        logprobs: bool,
    ) -> Value {
        let choice = |(index, response): (usize, &Response)| {
            let mut message = json!({ "role": "assistant", "content": response.text, "refusal": null });
            if let Some(reasoning) = &response.reasoning {
                message["reasoning_content"] = reasoning.text.as_str().into();
            }
            json!({
                "index": index,
                "message": message,
                "logprobs": logprobs.then(|| token_logprobs(response)),
                "finish_reason": finish_reason(response),
            })
        };
        let choices = responses.iter().enumerate().map(choice).collect();
        let mut object = self.object("chat.completion", &choices);
        object["usage"] = usage(responses, prompt_tokens);
        object
    }

    /// First chunk of a response, with its role.
    pub(crate) fn opening(&self, index: usize) -> Value {
        self.chunk(index, &json!({ "role": "assistant", "content": "" }), None)
    }

    /// Chunk with a piece of reasoning.
    pub(crate) fn reasoning(&self, index: usize, text: &str) -> Value {
        self.chunk(index, &json!({ "reasoning_content": text }), None)
    }

    /// Chunk with a piece of text.
    pub(crate) fn piece(&self, index: usize, text: &str) -> Value {
        self.chunk(index, &json!({ "content": text }), None)
    }

    /// Last chunk of a response, with its finish reason.
    pub(crate) fn closing(&self, index: usize, response: &Response) -> Value {
        self.chunk(index, &json!({}), Some(finish_reason(response)))
    }

    /// Chunk behind all responses, with token counts.
    pub(crate) fn counts(&self, responses: &[Response], prompt_tokens: Option<usize>) -> Value {
        let mut object = self.object("chat.completion.chunk", &json!([]));
        object["usage"] = usage(responses, prompt_tokens);
        object
    }

    fn chunk(&self, index: usize, delta: &Value, finish_reason: Option<&str>) -> Value {
        let choice = json!({ "index": index, "delta": delta, "finish_reason": finish_reason });
        self.object("chat.completion.chunk", &json!([choice]))
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn finish_reason(response: &Response) -> &'static str {
    match response.finish_reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// Token counts; null where the policy does not report the prompt's length, since clients bill by them.
fn usage(responses: &[Response], prompt_tokens: Option<usize>) -> Value {
    let Some(prompt) = prompt_tokens else { return Value::Null };
    let written: usize = responses.iter().map(|response| response.token_ids.len()).sum();
    let mut usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    });
    if responses.iter().any(|response| response.reasoning.is_some()) {
        let reasoned: usize =
            responses.iter().filter_map(|it| it.reasoning.as_ref()).map(|it| it.tokens).sum();
        usage["completion_tokens_details"] = json!({ "reasoning_tokens": reasoned });
    }
    usage
}

/// Log-probs by token. Policies report token ids without their text, so tokens are named as by vLLM's
/// `return_tokens_as_token_ids`.
fn token_logprobs(response: &Response) -> Value {
    let token = |(id, logprob): (&u32, &f32)| json!({ "token": format!("token_id:{id}"), "logprob": logprob, "bytes": null, "top_logprobs": [] });
    let content: Vec<Value> = response.token_ids.iter().zip(&response.logprobs).map(token).collect();
    json!({ "content": content, "refusal": null })
}

/// A JSON body.
pub(crate) fn json(status: StatusCode, value: &Value) -> HttpResponse {
    let mut response = (status, Body::from(value.to_string())).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
