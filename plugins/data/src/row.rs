//! One row of a list, and how texts are taken out of it.

use std::path::{Path, PathBuf};

use isr_api::{Sample, SampleId};
use serde_json::{Map, Value};

use crate::names::{hint, nearest};

/// A row of whatever format.
pub(crate) type Object = Map<String, Value>;

/// A sample as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// The part that training may see.
    pub(crate) sample: Sample,
    /// The reference answer, where the row has one.
    pub(crate) answer: Option<String>,
    /// What an evaluator may know; null where there is nothing.
    pub(crate) facts: Value,
}

/// The texts of a row, before they are checked.
pub(crate) struct Texts {
    pub(crate) id: String,
    pub(crate) video: String,
    pub(crate) instruction: String,
    /// The key that the instruction came from, for messages.
    pub(crate) instruction_key: String,
    pub(crate) answer: Option<String>,
    pub(crate) facts: Value,
}

impl Texts {
    /// The sample, its video below `root` unless it is absolute. A placeholder `<video>` or `<image>` is
    /// taken out of the instruction: the policy's own template places the video.
    pub(crate) fn into_line(self, root: &Path) -> Result<Line, String> {
        let instruction = self.instruction.replace("<video>", "").replace("<image>", "").trim().to_owned();
        if instruction.is_empty() {
            return Err(format!("`{}` says nothing", self.instruction_key));
        }
        let video: PathBuf = root.join(self.video);
        let sample = Sample { id: SampleId(self.id), video, instruction };
        Ok(Line { sample, answer: self.answer, facts: self.facts })
    }
}

/// A text that must be there.
pub(crate) fn required(object: &Object, key: &str) -> Result<String, String> {
    match optional(object, key)? {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) => Err(format!("`{key}` is empty")),
        None => Err(missing(object, key)),
    }
}

/// A text that may be absent or null.
pub(crate) fn optional(object: &Object, key: &str) -> Result<Option<String>, String> {
    object.get(key).map_or(Ok(None), |value| text(key, value))
}

/// An id: a text or a number.
pub(crate) fn id(object: &Object, key: &str) -> Result<String, String> {
    match object.get(key) {
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => required(object, key),
    }
}

/// The path of a video: a text, or an object with `path`, as the `Video` feature of `datasets` has it.
pub(crate) fn video(key: &str, value: &Value) -> Result<String, String> {
    let Value::Object(parts) = value else {
        return text(key, value)?.filter(|text| !text.is_empty()).ok_or(format!("`{key}` is empty"));
    };
    match parts.get("path").and_then(Value::as_str) {
        Some(path) if !path.is_empty() => Ok(path.to_owned()),
        _ if parts.contains_key("bytes") => Err(format!(
            "`{key}` holds a video's bytes and no path; write the videos to files, and their paths into the \
             list"
        )),
        _ => Err(format!("`{key}` is an object without `path`")),
    }
}

/// A value that should be a text; `None` for null.
pub(crate) fn text(key: &str, value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(format!("`{key}` is {}; expected a text", shortened(other))),
    }
}

/// That a key is missing, with the key that looks like a slip of it.
pub(crate) fn missing(object: &Object, key: &str) -> String {
    match nearest(key, object.keys().map(String::as_str)) {
        Some(near) => format!("`{key}` is missing; did you mean it by `{near}`?"),
        None => format!("`{key}` is missing"),
    }
}

/// That a mapped column is missing, with the column that was meant.
pub(crate) fn no_column(object: &Object, column: &str) -> String {
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    format!("there is no column `{column}`{}", hint(column, &names))
}

/// The value as JSON, cut to what fits in a message.
fn shortened(value: &Value) -> String {
    const SHOWN: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
