//! Column maps: which column of a list holds which part of a sample.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::media::Media;
use crate::row::{Object, Texts, no_column, span, text, video};

/// Column map of a list. A dot accesses a field of an object or an element of a list: `messages.0.content`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// Column of the id, a string or a number. By default samples are numbered from 1 in file order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Column of the video's path; the default is "video". May contain an object with `path` or `bytes`, like the `Video`
    /// feature of Hugging Face `datasets`, or a list of frames.
    pub video: String,
    /// Column of the start of a part of the video, in seconds. Default none: the whole video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Column of the end of a part of the video, in seconds. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Column of the instruction; the default is "instruction".
    pub instruction: String,
    /// Column of the reference answer, read for evaluation and audit lists only; the default is "answer".
    pub answer: String,
    /// Column of ground-truth facts for an evaluator. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<String>,
}

impl Default for Columns {
    fn default() -> Self {
        let name = str::to_owned;
        Self {
            id: None,
            video: name("video"),
            start: None,
            end: None,
            instruction: name("instruction"),
            answer: name("answer"),
            facts: None,
        }
    }
}

impl Columns {
    /// Checks column names; the message names the first invalid one.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let mut named = self.named().into_iter();
        match named.find(|(_, column)| column.split('.').any(|part| part.trim().is_empty())) {
            Some((key, column)) => Err(format!("columns.{key} is {column:?}; it must name a column")),
            None => Ok(()),
        }
    }

    /// Mapped parts of a sample, with their columns.
    pub(crate) fn named(&self) -> Vec<(&'static str, &str)> {
        let own = [
            ("id", self.id.as_ref()),
            ("video", Some(&self.video)),
            ("start", self.start.as_ref()),
            ("end", self.end.as_ref()),
            ("instruction", Some(&self.instruction)),
            ("answer", Some(&self.answer)),
            ("facts", self.facts.as_ref()),
        ];
        own.into_iter().filter_map(|(part, column)| Some((part, column?.as_str()))).collect()
    }

    /// Extracts the texts of a row; `number` is its position among the list's samples, from 1.
    pub(crate) fn read(
        &self,
        row: &Object,
        number: usize,
        labelled: bool,
        media: Media<'_>,
    ) -> Result<Texts, String> {
        let needed = |column: &str| find(row, column).ok_or_else(|| no_column(row, column));
        let filled = |column: &str| {
            let text = text(column, needed(column)?)?;
            text.filter(|text| !text.is_empty()).ok_or_else(|| format!("`{column}` is empty"))
        };
        let id = match &self.id {
            None => number.to_string(),
            Some(column) => match needed(column)? {
                Value::Number(number) => number.to_string(),
                _ => filled(column)?,
            },
        };
        let answer = match find(row, &self.answer) {
            Some(value) if labelled => text(&self.answer, value)?,
            None if labelled => return Err(no_column(row, &self.answer)),
            _ => None,
        };
        Ok(Texts {
            id,
            video: video(&self.video, needed(&self.video)?, media)?,
            span: span(mapped(row, &self.start)?, mapped(row, &self.end)?)?,
            instruction: filled(&self.instruction)?,
            instruction_key: self.instruction.clone(),
            answer,
            facts: self.facts.as_ref().and_then(|column| find(row, column)).cloned().unwrap_or_default(),
        })
    }
}

/// Value of a column that may be mapped; `None` if it is not.
pub(crate) fn mapped<'r>(row: &'r Object, column: &Option<String>) -> Result<Option<&'r Value>, String> {
    let found = |column: &String| find(row, column).ok_or_else(|| no_column(row, column));
    column.as_ref().map(found).transpose()
}

/// Value of a column: by its full name, else by the path between its dots.
pub(crate) fn find<'r>(row: &'r Object, column: &str) -> Option<&'r Value> {
    if let Some(value) = row.get(column) {
        return Some(value);
    }
    let (first, rest) = column.split_once('.')?;
    rest.split('.').try_fold(row.get(first)?, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        value => value.get(part),
    })
}
