//! Structured prompts. The policy renders them with its own chat template; no other code writes role markers or
//! visual tokens.

use serde::{Deserialize, Serialize};

use crate::video::VideoInput;

/// The author of a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The system prompt.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// A turn of a conversation as data: text alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// Author of the turn.
    pub role: Role,
    /// What was said.
    pub text: String,
}

/// A piece of a message's content.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text; the policy adds no white space around it.
    Text(String),
    /// A video, which the policy renders as visual tokens.
    Video(VideoInput),
}

/// One turn of a conversation.
#[derive(Clone, Debug)]
pub struct Message {
    /// Author of the turn.
    pub role: Role,
    /// Content, in order.
    pub parts: Vec<Part>,
}

/// A conversation that ends before the assistant's next turn.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// The turns so far, oldest first.
    pub messages: Vec<Message>,
}

impl Prompt {
    /// Creates one user turn of a video and a text. The video comes first, so that prompts on one video share a
    /// prefix in the KV cache.
    pub fn about(scene: &VideoInput, text: impl Into<String>) -> Self {
        let parts = vec![Part::Video(scene.clone()), Part::Text(text.into())];
        Self { messages: vec![Message { role: Role::User, parts }] }
    }

    /// Creates one user turn of text, without a video.
    pub fn text(text: impl Into<String>) -> Self {
        Self { messages: vec![Message { role: Role::User, parts: vec![Part::Text(text.into())] }] }
    }

    /// Creates a conversation: earlier `turns`, then a user turn of `text`. A video stands at the front of the first user
    /// turn.
    ///
    /// Without earlier turns it is [`about`](Self::about) the video, or without one [`text`](Self::text).
    pub fn conversation(scene: Option<&VideoInput>, turns: &[Turn], text: impl Into<String>) -> Self {
        let last = (Role::User, text.into());
        let all = turns.iter().map(|turn| (turn.role, turn.text.clone())).chain([last]);
        let mut scene = scene.cloned();
        let message = |(role, text): (Role, String)| {
            let video = if role == Role::User { scene.take().map(Part::Video) } else { None };
            Message { role, parts: video.into_iter().chain([Part::Text(text)]).collect() }
        };
        Self { messages: all.map(message).collect() }
    }

    /// Inserts a system prompt before the first turn.
    #[must_use]
    pub fn with_system(mut self, text: impl Into<String>) -> Self {
        let message = Message { role: Role::System, parts: vec![Part::Text(text.into())] };
        self.messages.insert(0, message);
        self
    }

    /// Renders the conversation for logs and records: one turn per line, videos as `<video>`, no role markers.
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
