//! Column map of preference pairs.

use isr_api::{Role, Turn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layout::{Pair, Texts};
use crate::columns::{find, mapped};
use crate::conversation::turns;
use crate::media::Media;
use crate::row::{Object, checked_part, no_column, text};

/// Column map of preference pairs. A dot accesses a field of an object or an element of a list: `completions.0.text`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreferenceColumns {
    /// Column of the id, a string or a number. Default: the row's file and position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Column of the video or image: a path, an object with `path` or `bytes`, or a list of one. Default none: text alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<String>,
    /// Column of the start of a part of the video, in seconds. Default none: the whole video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Column of the end of a part of the video, in seconds. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Column of the prompt, a text or a list of turns; the default is "prompt".
    pub prompt: String,
    /// Column of the chosen response; the default is "chosen".
    pub chosen: String,
    /// Column of the rejected response; the default is "rejected".
    pub rejected: String,
}

impl Default for PreferenceColumns {
    fn default() -> Self {
        let name = str::to_owned;
        Self {
            id: None,
            video: None,
            start: None,
            end: None,
            prompt: name("prompt"),
            chosen: name("chosen"),
            rejected: name("rejected"),
        }
    }
}

impl PreferenceColumns {
    /// All mapped columns.
    pub(super) fn named(&self) -> Vec<String> {
        let optional = [&self.id, &self.video, &self.start, &self.end].into_iter().flatten();
        optional.chain([&self.prompt, &self.chosen, &self.rejected]).cloned().collect()
    }

    pub(super) fn read(&self, row: &Object, media: Media<'_>) -> Result<Pair, String> {
        let value = |column: &str| find(row, column).ok_or_else(|| no_column(row, column));
        let filled = |column: &str| {
            let text = text(column, value(column)?)?;
            text.ok_or_else(|| format!("`{column}` is empty")).map(|text| (column.to_owned(), text))
        };
        let id = match &self.id {
            None => None,
            Some(column) => Some(match value(column)? {
                Value::Number(number) => number.to_string(),
                _ => filled(column)?.1,
            }),
        };
        let video = match &self.video {
            None => None,
            Some(column) => Some(media.of_value(column, value(column)?)?),
        };
        let video = checked_part(video, mapped(row, &self.start)?, mapped(row, &self.end)?)?;
        let turns = match value(&self.prompt)? {
            list @ Value::Array(_) => turns(&self.prompt, list)?,
            _ => vec![Turn { role: Role::User, text: filled(&self.prompt)?.1 }],
        };
        let (chosen, rejected) = (filled(&self.chosen)?, filled(&self.rejected)?);
        Texts { key: "prompt", turns, chosen, rejected }.check(id, video, None)
    }
}
