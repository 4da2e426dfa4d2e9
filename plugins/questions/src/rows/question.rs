//! Question files.

use serde_json::Value;

use super::{Layout, Object, Rejected, any, object, sorted, text, without_placeholders};
use crate::error::QuestionsError;

/// One question with its reference answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Id, unique within the set.
    pub id: String,
    /// Video, as the file names it.
    pub video: String,
    /// Caption of the video, for scorers that show it.
    pub caption: Option<String>,
    /// The question, without placeholders of the video.
    pub question: String,
    /// The reference answer.
    pub answer: String,
    /// Options, of a multiple-choice question.
    pub options: Vec<String>,
    /// The pair that it belongs to, of a question that is asked in two ways.
    pub pair: Option<Pair>,
    /// Line of the file, from 1.
    pub line: usize,
}

/// Place of a question in a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Number of the pair within the file, from 0.
    pub number: usize,
    /// Whether it asks about what the video does not show.
    pub hallucination: bool,
}

/// Questions of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    /// Layout of the file.
    pub layout: Layout,
    /// The questions, in the file's order.
    pub questions: Vec<Question>,
    /// Rows that are no questions.
    pub rejected: Vec<Rejected>,
}

impl Questions {
    /// Reads rows with their lines. The layout is that of the first row, unless one is given.
    ///
    /// # Errors
    /// [`QuestionsError::Layout`] for a file in no layout, which names the nearest; [`QuestionsError::OtherLayout`] for
    /// one in another layout than the given one; and a file of which no row is a question.
    pub fn read(
        rows: impl Iterator<Item = (usize, Result<Value, String>)>,
        layout: Option<Layout>,
    ) -> Result<Self, QuestionsError> {
        let mut rows = rows.peekable();
        let layout = match (layout, rows.peek()) {
            (Some(layout), Some((line, Ok(row)))) => layout.check(*line, row).map(|()| layout)?,
            (None, Some((line, Ok(row)))) => Layout::of(*line, row)?,
            (Some(layout), _) => layout,
            (None, _) => Layout::Qa,
        };
        let mut number = 0;
        let read = |line: usize, row: &Value| {
            let row = object(row)?;
            Ok(match layout {
                Layout::LlavaHound => vec![conversation(row, line)?],
                Layout::Qa => vec![question(row, line)?],
                Layout::Options => vec![with_options(row, line)?],
                Layout::VideoHallucer => {
                    number += 1;
                    pair(row, line, number - 1)?.into()
                }
            })
        };
        let (questions, rejected) = sorted(rows, read, |question| &question.id);
        any("question", &questions, &rejected)?;
        Ok(Self { layout, questions, rejected })
    }
}

impl Question {
    /// What the model is asked: the question, with its options and a request for a letter, or with VideoHallucer's request
    /// for yes or no.
    pub fn prompt(&self) -> String {
        let mut prompt = self.question.clone();
        if !self.options.is_empty() {
            for (letter, option) in ('A'..='Z').zip(&self.options) {
                prompt.push_str(&format!("\n{letter}. {option}"));
            }
            prompt.push_str("\nAnswer with the option's letter from the given choices directly.");
        } else if self.pair.is_some() {
            prompt.push_str("\nAnswer the question using 'yes' or 'no'.");
        }
        prompt
    }
}

fn question(row: &Object, line: usize) -> Result<Question, String> {
    Ok(Question {
        id: text(row, &["id", "question_id"])?,
        video: text(row, &["video", "video_name"])?,
        caption: caption(row)?,
        question: asked(&text(row, &["question", "prompt", "Q"])?)?,
        answer: text(row, &["answer", "A"])?,
        options: Vec::new(),
        pair: None,
        line,
    })
}

fn conversation(row: &Object, line: usize) -> Result<Question, String> {
    let turns = row.get("conversations").and_then(Value::as_array).ok_or("`conversations` is no list")?;
    // The first two turns are the question and its answer, whatever their speakers are called.
    let turn = |index: usize, what: &str| {
        let turn = turns.get(index).and_then(Value::as_object);
        let turn = turn.ok_or_else(|| format!("`conversations` has no {what}"))?;
        text(turn, &["value"]).map_err(|reason| format!("conversations[{index}]: {reason}"))
    };
    Ok(Question {
        id: text(row, &["id", "idx"])?,
        video: text(row, &["video", "video_name"])?,
        caption: caption(row)?,
        question: asked(&turn(0, "question")?)?,
        answer: turn(1, "answer")?,
        options: Vec::new(),
        pair: None,
        line,
    })
}

fn with_options(row: &Object, line: usize) -> Result<Question, String> {
    let listed = row.get("options").or_else(|| row.get("candidates")).and_then(Value::as_array);
    let listed = listed.ok_or("`options` is no list")?;
    let option = |(index, value): (usize, &Value)| {
        let value = value.as_str().map(str::to_owned).ok_or(format!("options[{index}] is no text"))?;
        // `A. red` and `(A) red` are `red`: the letters are put before them anew.
        let letter = char::from(b'A'.saturating_add(u8::try_from(index).unwrap_or(u8::MAX)));
        let marks =
            [format!("{letter}. "), format!("({letter}) "), format!("{letter}) "), format!("{letter}: ")];
        let bare = marks.iter().find_map(|mark| value.strip_prefix(mark.as_str())).map(str::to_owned);
        Ok::<_, String>(bare.unwrap_or(value))
    };
    let options: Vec<String> = listed.iter().enumerate().map(option).collect::<Result<_, _>>()?;
    if !(2..=26).contains(&options.len()) {
        return Err(format!("`options` has {} entries; it must have 2 to 26", options.len()));
    }
    let video = text(row, &["video", "video_name"])?;
    let id = text(row, &["id", "question_id"]).unwrap_or_else(|_| format!("{line}"));
    Ok(Question {
        id,
        video,
        caption: caption(row)?,
        question: asked(&text(row, &["question", "prompt", "Q"])?)?,
        answer: text(row, &["answer", "A"])?,
        options,
        pair: None,
        line,
    })
}

fn pair(row: &Object, line: usize, number: usize) -> Result<[Question; 2], String> {
    let part = |key: &str| {
        let at = |reason: String| format!("{key}: {reason}");
        let part =
            row.get(key).and_then(Value::as_object).ok_or_else(|| format!("`{key}` is no object"))?;
        Ok::<_, String>(Question {
            id: format!("{number}_{key}"),
            video: text(part, &["video"]).map_err(at)?,
            caption: None,
            question: asked(&text(part, &["question"]).map_err(at)?)?,
            answer: text(part, &["answer"]).map_err(at)?,
            options: Vec::new(),
            pair: Some(Pair { number, hallucination: key == "hallucination" }),
            line,
        })
    };
    Ok([part("basic")?, part("hallucination")?])
}

fn asked(question: &str) -> Result<String, String> {
    let question = without_placeholders(question);
    if question.is_empty() { Err("the question says nothing".to_owned()) } else { Ok(question) }
}

fn caption(row: &Object) -> Result<Option<String>, String> {
    match row.get("caption") {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text(row, &["caption"]).map(Some),
    }
}
