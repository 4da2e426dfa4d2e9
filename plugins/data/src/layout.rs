//! Layouts of LLaVA-Hound's lists (arXiv 2404.01258), and their detection.
//!
//! | layout | keys | use in LLaVA-Hound |
//! |---|---|---|
//! | `train` | `id`, `video`, `conversations` of `{"from": "human" or "gpt", "value"}` | captions and instructions |
//! | `dpo` | `id`, `video`, `prompt`, optionally `answer`, `chosen`, `rejected` | preference data |
//! | `qa` | `id` (or `question_id`), `video` (or `video_name`), `question`, `answer` | test sets |
//!
//! Only the first turn of each speaker in `conversations` is read. `chosen` and `rejected` are ignored: the
//! loop samples and judges its own answers. Every layout may have `facts` for an evaluator, and `start` and `end` of a part of
//! the video in seconds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::media::Media;
use crate::row::{Object, Texts, id, missing, optional, required, span, video};

/// Layout of the rows of a list, after LLaVA-Hound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Detected for each row by the key `conversations`, `prompt` or `question`.
    #[default]
    Auto,
    /// Instruction and answer in `conversations`.
    Train,
    /// Instruction in `prompt`.
    Dpo,
    /// Instruction in `question`.
    Qa,
}

/// Layouts, with their names and distinguishing keys.
const LAYOUT_KEYS: [(Layout, &str, &str); 3] = [
    (Layout::Train, "train", "conversations"),
    (Layout::Dpo, "dpo", "prompt"),
    (Layout::Qa, "qa", "question"),
];

/// All keys that layouts read.
pub(crate) const KEYS: [&str; 11] = [
    "id",
    "question_id",
    "video",
    "video_name",
    "start",
    "end",
    "conversations",
    "prompt",
    "question",
    "answer",
    "facts",
];

impl Layout {
    /// Extracts the texts of a row.
    pub(crate) fn read(self, row: &Object, media: Media<'_>) -> Result<Texts, String> {
        let layout = if self == Self::Auto { detect(row)? } else { self };
        let key = layout.key();
        let (instruction, answer) = match layout {
            Self::Train => conversation(row.get(key).ok_or_else(|| missing(row, key))?)?,
            _ => (required(row, key)?, optional(row, "answer")?),
        };
        let (id_key, video_key) = match layout {
            Self::Qa => (either(row, "id", "question_id"), either(row, "video", "video_name")),
            _ => ("id", "video"),
        };
        let path = row.get(video_key).filter(|value| !value.is_null());
        Ok(Texts {
            id: id(row, id_key)?,
            video: video(video_key, path.ok_or_else(|| missing(row, video_key))?, media)?,
            span: span(row.get("start"), row.get("end"))?,
            instruction,
            instruction_key: key.to_owned(),
            answer,
            facts: row.get("facts").cloned().unwrap_or_default(),
        })
    }

    fn key(self) -> &'static str {
        LAYOUT_KEYS.iter().find(|(layout, ..)| *layout == self).map_or("prompt", |(_, _, key)| key)
    }
}

/// Detects the layout by the row's keys; ambiguous rows are an error.
fn detect(row: &Object) -> Result<Layout, String> {
    let found: Vec<_> = LAYOUT_KEYS.iter().filter(|(_, _, key)| row.contains_key(*key)).collect();
    match found.as_slice() {
        [] => Err(missing(row, "prompt")),
        [(layout, ..)] => Ok(*layout),
        [(_, a, first), (_, b, second), ..] => Err(format!(
            "it has both `{first}` and `{second}`; say which counts by layout = \"{a}\" or layout = \"{b}\""
        )),
    }
}

fn either<'k>(row: &Object, usual: &'k str, other: &'k str) -> &'k str {
    if !row.contains_key(usual) && row.contains_key(other) { other } else { usual }
}

/// First human turn and first answer.
fn conversation(turns: &Value) -> Result<(String, Option<String>), String> {
    let turns = turns.as_array().ok_or("`conversations` is no list of turns")?;
    let first = |speaker: &str| {
        let turn = turns.iter().find(|turn| turn.get("from").and_then(Value::as_str) == Some(speaker));
        turn.and_then(|turn| turn.get("value")).and_then(Value::as_str).map(str::to_owned)
    };
    let prompt =
        first("human").ok_or("`conversations` has no turn {\"from\": \"human\", \"value\": ...}")?;
    Ok((prompt, first("gpt")))
}
