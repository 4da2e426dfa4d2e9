//! Rows of a list, and extraction of texts from them.

use std::path::{Path, PathBuf};

use isr_api::{Sample, SampleId, VideoSpan};
use serde_json::{Map, Value};

use crate::media::Media;
use crate::names::{hint, nearest};

/// A row as a JSON object, independent of the format.
pub(crate) type Object = Map<String, Value>;

/// A parsed row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Part that training may read.
    pub(crate) sample: Sample,
    /// Reference answer, if the row has one.
    pub(crate) answer: Option<String>,
    /// Ground-truth facts for an evaluator; null if there are none.
    pub(crate) facts: Value,
}

/// Texts of a row before validation.
pub(crate) struct Texts {
    pub(crate) id: String,
    pub(crate) video: String,
    /// Part of the video, which its reader checks.
    pub(crate) span: Option<VideoSpan>,
    pub(crate) instruction: String,
    /// Key of the instruction, for error messages.
    pub(crate) instruction_key: String,
    pub(crate) answer: Option<String>,
    pub(crate) facts: Value,
}

impl Texts {
    /// Converts to a sample, with relative video paths below `root`. Removes the placeholders `<video>` and
    /// `<image>` from the instruction, as the policy's chat template places the video.
    pub(crate) fn into_line(self, root: &Path) -> Result<Line, String> {
        let instruction = self.instruction.replace("<video>", "").replace("<image>", "").trim().to_owned();
        if instruction.is_empty() {
            return Err(format!("`{}` says nothing", self.instruction_key));
        }
        let video = part_of(root.join(self.video), self.span)?;
        let sample = Sample { id: SampleId(self.id), video, instruction };
        Ok(Line { sample, answer: self.answer, facts: self.facts })
    }
}

/// Required non-empty string.
pub(crate) fn required(object: &Object, key: &str) -> Result<String, String> {
    match optional(object, key)? {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) => Err(format!("`{key}` is empty")),
        None => Err(missing(object, key)),
    }
}

/// Optional string; `None` if absent or null.
pub(crate) fn optional(object: &Object, key: &str) -> Result<Option<String>, String> {
    object.get(key).map_or(Ok(None), |value| text(key, value))
}

/// Id: a string or a number.
pub(crate) fn id(object: &Object, key: &str) -> Result<String, String> {
    match object.get(key) {
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => required(object, key),
    }
}

/// Path of a video: a string, an object with `path` or stored `bytes`, like the `Video` feature of `datasets`, or a list of
/// frames, which are stored as a folder.
pub(crate) fn video(key: &str, value: &Value, media: Media<'_>) -> Result<String, String> {
    let parts = match value {
        Value::Object(parts) => parts,
        Value::Array(items) if !items.is_empty() => {
            return media.of_value(key, value).map(|path| path.to_string_lossy().into_owned());
        }
        value => {
            return text(key, value)?.filter(|text| !text.is_empty()).ok_or(format!("`{key}` is empty"));
        }
    };
    let stored = parts.get("bytes").and_then(|bytes| bytes.get("file")).and_then(Value::as_str);
    match stored.or(parts.get("path").and_then(Value::as_str).filter(|path| !path.is_empty())) {
        Some(path) => Ok(path.to_owned()),
        None if parts.contains_key("bytes") => Err(format!(
            "`{key}` holds a video's bytes and no path; write the videos to files, and their paths into the \
             list"
        )),
        None => Err(format!("`{key}` is an object without `path`")),
    }
}

/// The part of a video that a row names by its `start` and `end` in seconds; `None` for the whole.
///
/// # Errors
/// A value that is no number of seconds.
pub(crate) fn span(start: Option<&Value>, end: Option<&Value>) -> Result<Option<VideoSpan>, String> {
    let seconds = |name: &str, value: Option<&Value>| {
        let number = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.trim().parse().ok().filter(|it: &f64| it.is_finite()),
            Some(value) => value.as_f64(),
        };
        let wrong =
            || format!("its {name} is {}; expected seconds", value.map_or_else(String::new, shortened));
        number.map(Some).ok_or_else(wrong)
    };
    let (start, end) = (seconds("start", start)?, seconds("end", end)?);
    let whole = start.is_none() && end.is_none();
    Ok((!whole).then_some(VideoSpan { start: start.unwrap_or_default(), end }))
}

/// The part of a video at a path.
///
/// # Errors
/// A path that names a part itself.
pub(crate) fn part_of(video: PathBuf, span: Option<VideoSpan>) -> Result<PathBuf, String> {
    let Some(span) = span else { return Ok(video) };
    match VideoSpan::split(&video) {
        (_, None) => Ok(span.of(&video)),
        (_, Some(own)) => Err(format!("its video names a part, `{own}`, and start or end another")),
    }
}

/// The part of the row's video that `start` and `end` name, with a start before its end.
pub(crate) fn checked_part(
    video: Option<PathBuf>,
    start: Option<&Value>,
    end: Option<&Value>,
) -> Result<Option<PathBuf>, String> {
    let Some(video) = video else { return Ok(None) };
    let video = part_of(video, span(start, end)?)?;
    VideoSpan::split(&video).1.map_or(Ok(()), VideoSpan::validate)?;
    Ok(Some(video))
}

/// String value; `None` for null.
pub(crate) fn text(key: &str, value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(format!("`{key}` is {}; expected a text", shortened(other))),
    }
}

/// Error message for a missing key, with the nearest existing key.
pub(crate) fn missing(object: &Object, key: &str) -> String {
    match nearest(key, object.keys().map(String::as_str)) {
        Some(near) => format!("`{key}` is missing; did you mean it by `{near}`?"),
        None => format!("`{key}` is missing"),
    }
}

/// Error message for a missing mapped column, with the nearest existing column.
pub(crate) fn no_column(object: &Object, column: &str) -> String {
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    format!("there is no column `{column}`{}", hint(column, &names))
}

/// The value as JSON, truncated for an error message.
fn shortened(value: &Value) -> String {
    const SHOWN: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
