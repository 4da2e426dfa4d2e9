//! Parsing of replies: the parts of the OpenAI API's `chat.completion` that judges and scorers need.

use isr_api::without_reasoning;
use serde::{Deserialize, Serialize};

/// Token usage as counted by the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens of the reply.
    #[serde(default)]
    pub completion_tokens: u64,
}

/// Text and token usage of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Text of the first choice behind its reasoning; empty if there is none.
    pub text: String,
    /// Whether the reply ended at its limit of tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Token usage, if the server reports it.
    pub usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Content>,
}

/// Content of a message: a text, or parts of which those with a text are joined.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Deserialize)]
struct ContentPart {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    text: Option<String>,
}

impl Content {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => {
                let said = |part: &ContentPart| {
                    part.kind.as_deref().is_none_or(|kind| matches!(kind, "text" | "output_text"))
                };
                parts.into_iter().filter(said).filter_map(|part| part.text).collect()
            }
        }
    }
}

impl Reply {
    /// Parses a response body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(body).map_err(|error| format!("the reply is not JSON: {error}"))?;
        let completion: Completion = serde_json::from_value(value)
            .map_err(|error| format!("the reply is JSON, and no chat completion: {error}"))?;
        let choice = completion.choices.into_iter().next();
        let choice = choice.ok_or("the reply is a chat completion of no choices")?;
        let text = choice.message.content.map(Content::text).unwrap_or_default();
        Ok(Self {
            text: without_reasoning(&text).unwrap_or_default().to_owned(),
            cut: choice.finish_reason.as_deref() == Some("length"),
            usage: completion.usage,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    #[test]
    fn text_and_usage_are_read_and_the_rest_is_left() {
        let body =
            br#"{"id": 1, "choices": [{"index": 0, "message": {"role": "assistant", "content": "A"}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}"#;
        let usage = Some(Usage { prompt_tokens: 3, completion_tokens: 1 });
        assert_eq!(Reply::parse(body).unwrap(), Reply { text: "A".to_owned(), cut: false, usage });
        let refused = Reply::parse(br#"{"choices": [{"message": {"content": null}}]}"#).unwrap();
        assert_eq!(refused, Reply { text: String::new(), cut: false, usage: None });
    }

    #[test]
    fn reasoning_is_no_text_and_parts_are_joined() {
        let parsed = |finish: &str, message: &str| {
            let body = format!(r#"{{"choices": [{{"finish_reason": {finish}, "message": {message}}}]}}"#);
            let Reply { text, cut, .. } = Reply::parse(body.as_bytes()).unwrap();
            (text, cut)
        };
        for (finish, message, text, cut) in [
            (r#""length""#, r#"{"content": null, "reasoning_content": "A or B"}"#, "", true),
            (r#""length""#, r#"{"reasoning": "A or B"}"#, "", true),
            (r#""length""#, r#"{"content": "<think>A, and not B"}"#, "", true),
            (r#""stop""#, r#"{"content": "<think>A, no.</think>\n\nB"}"#, "\n\nB", false),
            (
                "null",
                r#"{"content": [{"type": "text", "text": "A"}, {"type": "text", "text": "."}]}"#,
                "A.",
                false,
            ),
            (
                r#""stop""#,
                r#"{"content": [{"type": "reasoning", "text": "B"}, {"type": "image_url"}, {"text": "A"}]}"#,
                "A",
                false,
            ),
        ] {
            assert_eq!(parsed(finish, message), (text.to_owned(), cut), "{message}");
        }
    }

    #[test]
    fn what_is_no_completion_says_so() {
        assert!(Reply::parse(b"<html>").unwrap_err().starts_with("the reply is not JSON"));
        assert!(Reply::parse(br#"{"choi"#).unwrap_err().starts_with("the reply is not JSON"));
        assert!(Reply::parse(br#"{"error": {}}"#).unwrap_err().contains("no chat completion"));
        assert!(Reply::parse(br#"{"choices": []}"#).unwrap_err().ends_with("no choices"));
    }
}
