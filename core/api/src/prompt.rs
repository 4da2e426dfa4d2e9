//! Structured prompts. A policy renders them with its own chat template; nobody else writes
//! `USER:` or counts visual tokens.

use serde::{Deserialize, Serialize};

use crate::video::VideoInput;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions.
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
}

/// A piece of a message.
#[derive(Clone, Debug)]
pub enum Part {
    /// Plain text; the policy inserts no white space around it.
    Text(String),
    /// A video, rendered as the policy's visual tokens.
    Video(VideoInput),
}

/// One turn of the conversation.
#[derive(Clone, Debug)]
pub struct Message {
    /// The speaker.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

/// A conversation that awaits the assistant's next turn.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// The turns so far, oldest first.
    pub messages: Vec<Message>,
}

impl Prompt {
    /// A user's question about a video, the video first (so that prompts on one video share a prefix).
    pub fn about(scene: &VideoInput, text: impl Into<String>) -> Self {
        let parts = vec![Part::Video(scene.clone()), Part::Text(text.into())];
        Self { messages: vec![Message { role: Role::User, parts }] }
    }

    /// A user's question without a video.
    pub fn text(text: impl Into<String>) -> Self {
        Self { messages: vec![Message { role: Role::User, parts: vec![Part::Text(text.into())] }] }
    }

    /// The same conversation with standing instructions in front.
    #[must_use]
    pub fn with_system(mut self, text: impl Into<String>) -> Self {
        let message = Message { role: Role::System, parts: vec![Part::Text(text.into())] };
        self.messages.insert(0, message);
        self
    }

    /// All text of the conversation, videos as `<video>`, turns on lines of their own: for records.
    pub fn transcript(&self) -> String {
        let turn = |message: &Message| -> String {
            let part = |part: &Part| match part {
                Part::Text(text) => text.clone(),
                Part::Video(_) => "<video>\n".to_owned(),
            };
            message.parts.iter().map(part).collect()
        };
        self.messages.iter().map(turn).collect::<Vec<_>>().join("\n")
    }
}
