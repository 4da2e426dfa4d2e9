//! Request bodies of chat completions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::refusal::PICTURES;

/// Parameters shared by all requests of a client.
#[derive(Debug)]
pub struct RequestStyle {
    /// Model on the server.
    pub model: String,
    /// System prompt.
    pub system: Option<String>,
    /// Maximum length of a reply in tokens; 0 sends none.
    pub max_tokens: u32,
    /// Key that holds it.
    pub max_tokens_key: MaxTokensKey,
    /// Whether a seed is sent.
    pub send_seed: bool,
    /// Additional keys of the body.
    pub extra: Map<String, Value>,
}

/// Key of the request body for the maximum length of a reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensKey {
    /// `max_tokens`.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's reasoning models take instead.
    MaxCompletionTokens,
}

/// Keys that the client sets, and `extra` must not.
pub(crate) const OWN_KEYS: [&str; 7] =
    ["model", "messages", "temperature", "max_tokens", "seed", "n", "stream"];

/// The setting to change where a server does not take a key of the request body.
pub(crate) fn remedy(parameter: &str, role: &str) -> String {
    match parameter {
        "temperature" => format!("set temperature = \"omit\" in the {role}'s section"),
        "max_tokens" => format!(
            "set max_tokens_key = \"max_completion_tokens\" in the {role}'s section, or another max_tokens \
             (0 omits the key)"
        ),
        "max_completion_tokens" => format!(
            "set max_tokens_key = \"max_tokens\" in the {role}'s section, or another max_tokens (0 omits the key)"
        ),
        "seed" => format!("set send_seed = false in the {role}'s section"),
        "model" => format!("set the {role}'s model to one that the server has"),
        PICTURES => format!("leave out frames in the {role}'s section, or set a model that takes pictures"),
        other => format!("change or remove extra.{other} in the {role}'s section"),
    }
}

#[derive(Serialize)]
struct Body<'b> {
    model: &'b str,
    messages: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(flatten)]
    extra: &'b Map<String, Value>,
}

impl RequestStyle {
    /// JSON body for a text and images (`data:` URLs). Deterministic to the byte, as cache keys are digests of
    /// it.
    pub fn body(&self, text: &str, pictures: &[String], temperature: Option<f64>, seed: u64) -> Vec<u8> {
        let limit = |key| (self.max_tokens > 0 && self.max_tokens_key == key).then_some(self.max_tokens);
        let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
        let user = json!({ "role": "user", "content": content(text, pictures) });
        let body = Body {
            model: &self.model,
            messages: system.chain([user]).collect(),
            temperature,
            max_tokens: limit(MaxTokensKey::MaxTokens),
            max_completion_tokens: limit(MaxTokensKey::MaxCompletionTokens),
            // Servers differ in the range of seeds; all accept 31 bits.
            seed: self.send_seed.then_some(seed >> 33),
            extra: &self.extra,
        };
        // Serialising strings, numbers and string-keyed maps to memory does not fail.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// Message content: a plain string without images, as servers of text models require.
fn content(text: &str, pictures: &[String]) -> Value {
    if pictures.is_empty() {
        return text.into();
    }
    let picture = |url: &String| json!({ "type": "image_url", "image_url": { "url": url } });
    let text = json!({ "type": "text", "text": text });
    pictures.iter().map(picture).chain([text]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    fn style() -> RequestStyle {
        let (model, system) = ("m".to_owned(), Some("be fair".to_owned()));
        RequestStyle {
            model,
            system,
            max_tokens: 5,
            max_tokens_key: MaxTokensKey::MaxTokens,
            send_seed: true,
            extra: Map::new(),
        }
    }

    fn written(style: &RequestStyle, pictures: &[String]) -> String {
        String::from_utf8(style.body("A or B?", pictures, Some(0.5), u64::MAX)).unwrap()
    }

    #[test]
    fn a_body_is_a_chat_request() {
        insta::assert_snapshot!(
            written(&style(), &[]),
            @r#"{"model":"m","messages":[{"role":"system","content":"be fair"},{"role":"user","content":"A or B?"}],"temperature":0.5,"max_tokens":5,"seed":2147483647}"#
        );
    }

    #[test]
    fn a_request_for_a_reasoning_model_has_other_keys() {
        let style = RequestStyle { max_tokens_key: MaxTokensKey::MaxCompletionTokens, ..style() };
        let body: Value = serde_json::from_slice(&style.body("A or B?", &[], None, 1)).unwrap();
        assert_eq!(body["max_completion_tokens"], 5);
        assert!(body.get("max_tokens").is_none() && body.get("temperature").is_none(), "{body}");
    }

    #[test]
    fn pictures_come_before_the_text_and_settings_may_be_left_out() {
        let mut style = style();
        style.extra.insert("reasoning_effort".to_owned(), "low".into());
        let style = RequestStyle { system: None, max_tokens: 0, send_seed: false, ..style };
        insta::assert_snapshot!(
            written(&style, &["data:1".to_owned()]),
            @r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:1"}},{"type":"text","text":"A or B?"}]}],"temperature":0.5,"reasoning_effort":"low"}"#
        );
    }
}
