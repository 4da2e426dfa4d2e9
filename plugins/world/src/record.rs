//! Lines of JSONL sample lists, in LLaVA-Hound's layout.
//!
//! Two spellings of one thing are read: `prompt` and `answer`, as in its preference data, and
//! `conversations` of `{"from": "human" | "gpt", "value": ...}` turns, as in its SFT and QA data, where
//! the first of each counts. A placeholder `<video>` or `<image>` is taken out of the prompt, since the
//! policy's own template places the video. Other keys (`chosen`, `rejected`, scores) are ignored.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use isr_core::{LabelledSample, Sample, SampleId};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::WorldError;

/// A line as the world writes it.
#[derive(Serialize)]
pub(crate) struct Record<'a> {
    id: &'a SampleId,
    video: String,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Value>,
}

impl<'a> Record<'a> {
    /// A line without the answer; the video is named relative to `root`.
    pub(crate) fn unlabelled(sample: &'a Sample, root: &Path) -> Self {
        let video = isr_core::video_key(sample.video.strip_prefix(root).unwrap_or(&sample.video));
        Self { id: &sample.id, video, prompt: &sample.instruction, answer: None, facts: None }
    }

    /// A line with answer and facts.
    pub(crate) fn labelled(sample: &'a LabelledSample, root: &Path) -> Self {
        let blind = Self::unlabelled(&sample.sample, root);
        Self { answer: Some(&sample.reference), facts: Some(&sample.facts), ..blind }
    }
}

/// The records, one a line.
pub(crate) fn to_jsonl<'a>(records: impl Iterator<Item = Record<'a>>) -> String {
    // A record holds text and a JSON value only, so it always has a JSON form.
    records.map(|record| serde_json::to_string(&record).unwrap_or_default() + "\n").collect()
}

/// A line as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// The part that training may see.
    pub(crate) sample: Sample,
    /// The reference answer, where the line has one.
    pub(crate) answer: Option<String>,
    /// The key `facts`; null where there is none.
    pub(crate) facts: Value,
}

/// Reads a list; a relative `video` is below `root`.
pub(crate) fn read(path: &Path, root: &Path) -> Result<Vec<Line>, WorldError> {
    let text = fs::read_to_string(path).map_err(WorldError::io("read", path))?;
    let mut lines = Vec::new();
    let mut seen = HashMap::new();
    for (index, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let number = index + 1;
        let fail = |reason: String| WorldError::Line { path: path.to_owned(), line: number, reason };
        let line = parse(text, root).map_err(fail)?;
        if let Some(first) = seen.insert(line.sample.id.clone(), number) {
            return Err(fail(format!(
                "id `{}` is also on line {first}; ids must be unique",
                line.sample.id
            )));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn parse(text: &str, root: &Path) -> Result<Line, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("no valid JSON: {error}"))?;
    let object = value.as_object().ok_or("expected a JSON object with `id`, `video` and `prompt`")?;
    let (prompt, answer) = match object.get("conversations") {
        Some(turns) if !object.contains_key("prompt") => conversation(turns)?,
        _ => (required(object, "prompt")?, optional(object, "answer")?),
    };
    let instruction = prompt.replace("<video>", "").replace("<image>", "").trim().to_owned();
    if instruction.is_empty() {
        return Err("`prompt` says nothing".to_owned());
    }
    let sample =
        Sample { id: SampleId(id(object)?), video: root.join(required(object, "video")?), instruction };
    Ok(Line { sample, answer, facts: object.get("facts").cloned().unwrap_or_default() })
}

fn id(object: &Map<String, Value>) -> Result<String, String> {
    match object.get("id") {
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => required(object, "id"),
    }
}

fn required(object: &Map<String, Value>, key: &str) -> Result<String, String> {
    match optional(object, key)? {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) => Err(format!("`{key}` is empty")),
        None => Err(format!("`{key}` is missing")),
    }
}

fn optional(object: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{key}` is {other}; expected a text")),
    }
}

/// The first human turn and the first answer.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Line>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.jsonl");
        fs::write(&path, text).unwrap();
        let shown = |error: WorldError| error.to_string().replace(&*folder.path().to_string_lossy(), "DIR");
        read(&path, Path::new("root")).map_err(shown)
    }

    #[test]
    fn both_of_llava_hounds_spellings_are_read_alike() {
        let lines = read_text(concat!(
            r#"{"id": "a", "video": "v/1.mp4", "prompt": "<video>\nwhat?", "answer": "this", "chosen": "x"}"#,
            "\n\n",
            r#"{"id": 2, "video": "/abs/2", "conversations": [{"from": "human", "value": "what?\n<video>"}, "#,
            r#"{"from": "gpt", "value": "this"}]}"#,
        ))
        .unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].sample.video, Path::new("root/v/1.mp4"));
        assert_eq!(lines[1].sample.video, Path::new("/abs/2"));
        assert_eq!(lines[1].sample.id.as_str(), "2");
        for line in &lines {
            assert_eq!((line.sample.instruction.as_str(), line.answer.as_deref()), ("what?", Some("this")));
        }
    }

    #[test]
    fn a_bad_line_is_named_with_file_line_and_reason() {
        let good = r#"{"id": "a", "video": "v", "prompt": "p"}"#;
        for (bad, reason) in [
            ("{", "no valid JSON: EOF while parsing an object at line 1 column 1"),
            ("[1]", "expected a JSON object with `id`, `video` and `prompt`"),
            (r#"{"id": "b", "prompt": "p"}"#, "`video` is missing"),
            (r#"{"video": "v", "prompt": "p"}"#, "`id` is missing"),
            (r#"{"id": "b", "video": "v", "prompt": 3}"#, "`prompt` is 3; expected a text"),
            (r#"{"id": "b", "video": "v", "prompt": "<video>"}"#, "`prompt` says nothing"),
            (r#"{"id": "b", "video": "", "prompt": "p"}"#, "`video` is empty"),
            (good, "id `a` is also on line 1; ids must be unique"),
        ] {
            assert_eq!(
                read_text(&format!("{good}\n\n{bad}\n")),
                Err(format!("DIR/list.jsonl:3: {reason}"))
            );
        }
    }
}
