//! Layouts of question files, by their keys.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Object;
use crate::error::QuestionsError;

/// Layout of a question file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// LLaVA-Hound's `{set}.qa.jsonl`: `id`, `video`, `caption`, and `conversations` of `{from, value}`, the question
    /// and its answer.
    LlavaHound,
    /// `id` (or `question_id`), `video` (or `video_name`), `question` (or `prompt`), `answer`, optionally `caption`.
    Qa,
    /// The keys of `qa`, and `options` (or `candidates`), a list of texts.
    Options,
    /// VideoHallucer's (arXiv 2406.16338): `basic` and `hallucination`, each with `video`, `question` and `answer`.
    VideoHallucer,
}

/// Alternatives of one required key.
type Key = &'static [&'static str];

impl Layout {
    /// All layouts; of two that fit, the later one is meant.
    pub(super) const ALL: [Self; 4] = [Self::LlavaHound, Self::Qa, Self::Options, Self::VideoHallucer];

    /// Required keys.
    fn keys(self) -> &'static [Key] {
        const VIDEO: Key = &["video", "video_name"];
        const QUESTION: Key = &["question", "prompt", "Q"];
        match self {
            Self::LlavaHound => &[&["id", "idx"], VIDEO, &["conversations"]],
            Self::Qa => &[&["id", "question_id"], VIDEO, QUESTION, &["answer", "A"]],
            Self::Options => &[VIDEO, QUESTION, &["answer", "A"], &["options", "candidates"]],
            Self::VideoHallucer => &[&["basic"], &["hallucination"]],
        }
    }

    fn missing(self, row: &Object) -> Vec<&'static str> {
        let lacks = |key: &&Key| !key.iter().any(|name| row.contains_key(*name));
        self.keys().iter().filter(lacks).filter_map(|key| key.first().copied()).collect()
    }

    /// The layout that a row is in; of one that is in none, an error that names the nearest.
    pub(super) fn of(line: usize, value: &Value) -> Result<Self, QuestionsError> {
        let empty = Object::new();
        let row = value.as_object().unwrap_or(&empty);
        let fitting = Self::ALL.into_iter().rev().find(|layout| layout.missing(row).is_empty());
        fitting.ok_or_else(|| {
            let share = |layout: &Self| {
                let missing = layout.missing(row).len();
                // In thousandths: how much of the layout is there.
                1000 * (layout.keys().len() - missing) / layout.keys().len()
            };
            let nearest = Self::ALL.into_iter().rev().max_by_key(share).unwrap_or(Self::Qa);
            let missing = nearest.missing(row).join("`, `");
            let keys = row.keys().take(12).cloned().collect::<Vec<_>>().join("`, `");
            QuestionsError::Layout { line, nearest, missing, keys }
        })
    }

    /// Checks that a row is in this layout.
    pub(super) fn check(self, line: usize, value: &Value) -> Result<(), QuestionsError> {
        let empty = Object::new();
        let missing = self.missing(value.as_object().unwrap_or(&empty));
        if missing.is_empty() {
            return Ok(());
        }
        let found = Self::of(line, value)?;
        let missing = missing.join("`, `");
        Err(QuestionsError::OtherLayout { line, wanted: self, found, missing })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LlavaHound => "llava-hound",
            Self::Qa => "qa",
            Self::Options => "options",
            Self::VideoHallucer => "video-hallucer",
        })
    }
}
