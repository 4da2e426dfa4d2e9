//! Rows of question and prediction files.

mod layout;
mod prediction;
mod question;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::layout::Layout;
pub use self::prediction::{Outcome, Prediction, PredictionRow, Predictions, video_chatgpt_row};
pub use self::question::{Question, Questions};
use crate::error::QuestionsError;

/// A row as a JSON object.
type Object = Map<String, Value>;

/// A row that cannot be used, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Line of the file, from 1; 0 where it is no line's fault.
    pub line: usize,
    /// Id of the row, where it has one.
    pub id: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

/// Name of a video: the last part of its path up to the first `.`, as LLaVA-Hound's `get_id_from_frame_path`.
pub fn video_id(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

/// A text without the placeholders of the video, whose place the model's chat template knows.
fn without_placeholders(text: &str) -> String {
    text.replace("<video>", "").replace("<image>", "").trim().to_owned()
}

/// The text of a key; a number counts as its digits.
fn text(row: &Object, keys: &[&str]) -> Result<String, String> {
    let found = keys.iter().find_map(|key| Some((key, row.get(*key)?)));
    match found {
        Some((_, Value::String(text))) if !text.trim().is_empty() => Ok(text.clone()),
        Some((_, Value::Number(number))) => Ok(number.to_string()),
        Some((key, Value::String(_) | Value::Null)) => Err(format!("`{key}` is empty")),
        Some((key, _)) => Err(format!("`{key}` is no text")),
        None => Err(format!("`{}` is missing", keys.first().copied().unwrap_or_default())),
    }
}

/// The object of a row.
fn object(value: &Value) -> Result<&Object, String> {
    value.as_object().ok_or_else(|| "it is no JSON object".to_owned())
}

/// Splits rows into those that `read` takes and those that it rejects. Stops at the first error of the file itself.
fn sorted<T>(
    rows: impl Iterator<Item = (usize, Result<Value, String>)>,
    mut read: impl FnMut(usize, &Value) -> Result<Vec<T>, String>,
    id: impl Fn(&T) -> &str,
) -> (Vec<T>, Vec<Rejected>) {
    let (mut taken, mut rejected) = (Vec::<T>::new(), Vec::new());
    let mut seen = std::collections::HashMap::new();
    for (line, row) in rows {
        let value = match row {
            Ok(value) => value,
            Err(reason) => {
                rejected.push(Rejected { line, id: None, reason });
                continue;
            }
        };
        match read(line, &value) {
            Ok(items) => {
                for item in items {
                    match seen.insert(id(&item).to_owned(), line) {
                        None => taken.push(item),
                        Some(first) => {
                            seen.insert(id(&item).to_owned(), first);
                            let reason = format!("its id stands on line {first} already, which counts");
                            rejected.push(Rejected { line, id: Some(id(&item).to_owned()), reason });
                        }
                    }
                }
            }
            Err(reason) => {
                let id = value.as_object().and_then(|row| text(row, &["id", "question_id"]).ok());
                rejected.push(Rejected { line, id, reason });
            }
        }
    }
    (taken, rejected)
}

/// Refuses a file of which no row can be used.
fn any<T>(what: &'static str, taken: &[T], rejected: &[Rejected]) -> Result<(), QuestionsError> {
    match (taken.is_empty(), rejected.first()) {
        (false, _) => Ok(()),
        (true, None) => Err(QuestionsError::Empty { what }),
        (true, Some(Rejected { line, reason, .. })) => {
            let (rows, line, reason) = (rejected.len(), *line, reason.clone());
            Err(QuestionsError::NoneUsable { what, rows, line, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn videos_are_named_as_the_published_scripts_do() {
        for (path, id) in
            [("a/b/v_9SiYS0SEKTw-Scene-006", "v_9SiYS0SEKTw-Scene-006"), ("x.y.mp4", "x"), ("", "")]
        {
            assert_eq!(video_id(path), id);
        }
    }
}
