//! Layouts of demonstrations.
//!
//! | layout | a row | source |
//! |---|---|---|
//! | `llava` | `conversations` of `{"from", "value"}` | LLaVA, LLaVA-Hound, LLaMA-Factory's ShareGPT form |
//! | `ms_swift` | `messages` of `{"role", "content"}` | ms-swift 4.6, and TRL's conversational language modelling |
//! | `trl` | `prompt` and `completion`, as texts or messages | TRL 1.16, `dataset_formats` |
//!
//! Videos and images stand under `videos`, `video`, `images` or `image`; a system prompt may stand under `system`.

use std::path::PathBuf;

use isr_api::{Role, Turn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::columns::{find, mapped};
use crate::conversation::{answer, prompt, turns, with_system};
use crate::layouts::RowLayout;
use crate::media::Media;
use crate::row::{Object, checked_part, missing, no_column, required, text};

/// Layout of the rows of demonstrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DemonstrationLayout {
    /// LLaVA: `conversations` of turns with `from` and `value`.
    Llava,
    /// ms-swift: `messages` of turns with `role` and `content`.
    MsSwift,
    /// TRL: `prompt` and `completion`, as texts or messages.
    Trl,
}

impl RowLayout for DemonstrationLayout {
    const ALL: &'static [Self] = &[Self::Trl, Self::MsSwift, Self::Llava];

    const READ: &'static [&'static str] = KEYS;

    fn name(self) -> &'static str {
        match self {
            Self::Llava => "llava",
            Self::MsSwift => "ms_swift",
            Self::Trl => "trl",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Llava => &["conversations"],
            Self::MsSwift => &["messages"],
            Self::Trl => &["prompt", "completion"],
        }
    }
}

/// Keys that layouts read.
const KEYS: &[&str] = &[
    "id",
    "videos",
    "video",
    "images",
    "image",
    "start",
    "end",
    "system",
    "conversations",
    "messages",
    "prompt",
    "completion",
];

/// Column map of demonstrations. A dot accesses a field of an object or an element of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DemonstrationColumns {
    /// Column of the video or image: a path, an object with `path` or `bytes`, or a list of one. Default none: text alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<String>,
    /// Column of the start of a part of the video, in seconds. Default none: the whole video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Column of the end of a part of the video, in seconds. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Column of the prompt; the default is "prompt".
    pub prompt: String,
    /// Column of the answer; the default is "answer".
    pub answer: String,
}

impl Default for DemonstrationColumns {
    fn default() -> Self {
        Self {
            video: None,
            start: None,
            end: None,
            prompt: "prompt".to_owned(),
            answer: "answer".to_owned(),
        }
    }
}

/// A conversation with its answers, each of which is a demonstration.
pub(super) struct Conversation {
    pub(super) video: Option<PathBuf>,
    /// All turns, without the marker of the media.
    pub(super) turns: Vec<Turn>,
    /// Indices of the assistant's turns.
    pub(super) answers: Vec<usize>,
}

impl DemonstrationColumns {
    pub(super) fn named(&self) -> Vec<String> {
        let optional = [&self.video, &self.start, &self.end].into_iter().flatten();
        optional.chain([&self.prompt, &self.answer]).cloned().collect()
    }

    pub(super) fn read(&self, row: &Object, media: Media<'_>) -> Result<Conversation, String> {
        let value = |column: &str| find(row, column).ok_or_else(|| no_column(row, column));
        let filled =
            |column: &str| text(column, value(column)?)?.ok_or_else(|| format!("`{column}` is empty"));
        let video = match &self.video {
            None => None,
            Some(column) => Some(media.of_value(column, value(column)?)?),
        };
        let video = checked_part(video, mapped(row, &self.start)?, mapped(row, &self.end)?)?;
        let turns = exchange(filled(&self.prompt)?, filled(&self.answer)?);
        Conversation::checked(&self.prompt, turns, video)
    }
}

impl DemonstrationLayout {
    /// Reads a row.
    pub(super) fn read(self, row: &Object, media: Media<'_>) -> Result<Conversation, String> {
        let list = |key: &str| turns(key, row.get(key).ok_or_else(|| missing(row, key))?);
        let (key, turns) = match self {
            Self::Llava => ("conversations", with_system(row, list("conversations")?)?),
            Self::MsSwift => ("messages", with_system(row, list("messages")?)?),
            Self::Trl => match (row.get("prompt"), row.get("completion")) {
                (Some(Value::Array(_)), _) | (_, Some(Value::Array(_))) => {
                    let mut all = list("prompt")?;
                    all.extend(list("completion")?);
                    ("prompt", all)
                }
                _ => ("prompt", exchange(required(row, "prompt")?, required(row, "completion")?)),
            },
        };
        let video = checked_part(media.of_row(row, false)?, row.get("start"), row.get("end"))?;
        Conversation::checked(key, turns, video)
    }
}

fn exchange(prompt: String, answer: String) -> Vec<Turn> {
    vec![Turn { role: Role::User, text: prompt }, Turn { role: Role::Assistant, text: answer }]
}

impl Conversation {
    /// Checks that answers follow questions and that texts are clean.
    fn checked(key: &str, mut turns: Vec<Turn>, video: Option<PathBuf>) -> Result<Self, String> {
        let answers: Vec<usize> =
            (0..turns.len()).filter(|&at| turns[at].role == Role::Assistant).collect();
        let Some(&last) = answers.last() else { return Err(format!("`{key}` has no assistant turn")) };
        // A question without an answer teaches nothing.
        turns.truncate(last + 1);
        let after_answer = |at: &usize| *at == 0 || turns[at - 1].role != Role::User;
        if let Some(at) = answers.iter().copied().find(after_answer) {
            return Err(format!("turn {} of `{key}` answers no user turn", at + 1));
        }
        for &at in &answers {
            answer(&format!("turn {} of `{key}`", at + 1), &turns[at].text)?;
        }
        let end = turns.pop();
        let (mut clean, question) = prompt(key, turns, video.is_some())?;
        clean.push(Turn { role: Role::User, text: question });
        clean.extend(end);
        // An empty system prompt was removed.
        let answers = (0..clean.len()).filter(|&at| clean[at].role == Role::Assistant).collect();
        Ok(Self { video, turns: clean, answers })
    }
}
