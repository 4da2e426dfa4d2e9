//! Parsing of replies: the parts of the OpenAI API's `chat.completion` that a judge needs.

use serde::{Deserialize, Serialize};

/// Token usage as counted by the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Tokens of the prompt.
    #[serde(default)]
    pub(crate) prompt_tokens: u64,
    /// Tokens of the reply.
    #[serde(default)]
    pub(crate) completion_tokens: u64,
}

/// Text and token usage of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Text of the first choice; empty if its content is null.
    pub(crate) text: String,
    /// Token usage, if the server reports it.
    pub(crate) usage: Option<Usage>,
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
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
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
        Ok(Self { text: choice.message.content.unwrap_or_default(), usage: completion.usage })
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
        assert_eq!(Reply::parse(body).unwrap(), Reply { text: "A".to_owned(), usage });
        let refused = Reply::parse(br#"{"choices": [{"message": {"content": null}}]}"#).unwrap();
        assert_eq!(refused, Reply { text: String::new(), usage: None });
    }

    #[test]
    fn what_is_no_completion_says_so() {
        assert!(Reply::parse(b"<html>").unwrap_err().starts_with("the reply is not JSON"));
        assert!(Reply::parse(br#"{"choi"#).unwrap_err().starts_with("the reply is not JSON"));
        assert!(Reply::parse(br#"{"error": {}}"#).unwrap_err().contains("no chat completion"));
        assert!(Reply::parse(br#"{"choices": []}"#).unwrap_err().ends_with("no choices"));
    }
}
