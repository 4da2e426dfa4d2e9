//! Reading of a scorer's replies, as the published scripts do.

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::config::{Form, ScorerKind};
use super::python::{Literal, dictionary};
use crate::error::QuestionsError;

/// How a reply, or a prediction that is scored by a rule, was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// It says what it should, as asked.
    Stated,
    /// A score was found in it that is not stated as asked, or is out of range.
    Guessed,
    /// There is none in it.
    Nothing,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) correct: Option<bool>,
    pub(super) score: Option<f64>,
    pub(super) reading: Reading,
}

/// Score from which LLaVA-Hound's scripts count a prediction as correct.
const CORRECT_FROM: f64 = 3.0;

/// Reader of the replies of one scorer.
#[derive(Debug)]
pub(super) enum ReplyReader {
    /// LLaVA-Hound's `get_score` (`inference/utils.py`): the number behind `Score: `; else the commonest number of the
    /// reply, of several the mean; else 1.
    Score1To5 { stated: Regex, number: Regex },
    /// LLaVA-Hound's `extract_score` (`test/eval/eval_official_qa.py`), and `yes`, or else `no`, anywhere.
    YesNoAnywhere { score: Regex },
    /// Video-ChatGPT's `ast.literal_eval` of a dictionary of `pred` and `score`; the score is cut to a whole number.
    Dictionary,
}

impl ReplyReader {
    /// The reader of a scorer that asks a model.
    pub(super) fn of(scorer: ScorerKind, form: Form) -> Result<Self, QuestionsError> {
        let regex =
            |text: &str| Regex::new(text).map_err(|error| QuestionsError::Setting(error.to_string()));
        Ok(match (scorer, form) {
            (ScorerKind::YesNo0To5, Form::VideoChatgpt) => Self::Dictionary,
            (ScorerKind::YesNo0To5, Form::LlavaHound) => {
                Self::YesNoAnywhere { score: regex(r#"(?:'score'|"score")\s*:\s*([0-9]+)"#)? }
            }
            _ => Self::Score1To5 {
                stated: regex(r"Score: ([0-9]+\.?[0-9]*)")?,
                number: regex(r"\b[0-9]+\.?[0-9]*\b")?,
            },
        })
    }

    pub(super) fn read(&self, reply: &str) -> Said {
        match self {
            Self::Score1To5 { stated, number } => score_1_5(stated, number, reply),
            Self::YesNoAnywhere { score } => yes_no_anywhere(score, reply),
            Self::Dictionary => of_dictionary(reply),
        }
    }
}

fn score_1_5(stated: &Regex, number: &Regex, reply: &str) -> Said {
    let said =
        |score: f64, reading| Said { correct: Some(score >= CORRECT_FROM), score: Some(score), reading };
    let found = stated.captures(reply).and_then(|found| found.get(1)?.as_str().parse::<f64>().ok());
    if let Some(score) = found {
        let reading = if (1.0..=5.0).contains(&score) { Reading::Stated } else { Reading::Guessed };
        return said(score, reading);
    }
    let numbers = number.find_iter(reply).filter_map(|found| found.as_str().parse::<f64>().ok());
    let mut counts: Vec<(f64, usize)> = Vec::new();
    for value in numbers {
        match counts.iter_mut().find(|(other, _)| *other == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    let Some(most) = counts.iter().map(|(_, count)| *count).max() else {
        return said(1.0, Reading::Nothing);
    };
    let commonest: Vec<f64> =
        counts.iter().filter(|(_, count)| *count == most).map(|(value, _)| *value).collect();
    said(commonest.iter().sum::<f64>() / commonest.len() as f64, Reading::Guessed)
}

fn yes_no_anywhere(score: &Regex, reply: &str) -> Said {
    let score = score.captures(reply).and_then(|found| found.get(1)?.as_str().parse::<f64>().ok());
    let correct = yes_no(reply);
    Said { correct, score, reading: reading(correct, score) }
}

fn of_dictionary(reply: &str) -> Said {
    let entries = dictionary(reply).unwrap_or_default();
    let value = |key: &str| entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value);
    let pred = match value("pred") {
        Some(Literal::Text(text)) => yes_no(text),
        _ => None,
    };
    // Python's `int`: of a decimal number its whole part, of a text a whole number.
    let score = match value("score") {
        Some(Literal::Number(number)) => Some(number.trunc()),
        Some(Literal::Text(text)) => text.trim().parse::<i64>().ok().map(|whole| whole as f64),
        Some(Literal::Word(_)) | None => None,
    };
    let score = score.filter(|score| score.is_finite());
    Said { correct: pred, score, reading: reading(pred, score) }
}

fn yes_no(text: &str) -> Option<bool> {
    let text = text.to_lowercase();
    match (text.contains("yes"), text.contains("no")) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

fn reading(correct: Option<bool>, score: Option<f64>) -> Reading {
    match (correct, score) {
        (Some(_), Some(score)) if (0.0..=5.0).contains(&score) => Reading::Stated,
        (None, None) => Reading::Nothing,
        _ => Reading::Guessed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(scorer: ScorerKind, form: Form, reply: &str) -> (Option<bool>, Option<f64>, Reading) {
        let Said { correct, score, reading } = ReplyReader::of(scorer, form).unwrap().read(reply);
        (correct, score, reading)
    }

    /// Expected values: LLaVA-Hound's `get_score` on the same replies.
    #[test]
    fn scores_from_1_to_5_are_read_as_the_published_script_reads_them() {
        use Reading::{Guessed, Nothing, Stated};
        for (reply, score, reading) in [
            ("Explanation: right.\nScore: 4", 4.0, Stated),
            ("Score: 2.5/5", 2.5, Stated),
            ("Score: 3. Good.", 3.0, Stated),
            ("Score: 5 ... Score: 1", 5.0, Stated),
            ("Score: 45", 45.0, Guessed),
            ("Score:4", 4.0, Guessed),
            ("**Score**: 4 of 5", 4.5, Guessed),
            ("2 dogs, 2 cats, 3 birds", 2.0, Guessed),
            ("score 4.", 4.0, Guessed),
            ("v2 and 3a", 1.0, Nothing),
            ("I cannot say.", 1.0, Nothing),
            ("", 1.0, Nothing),
        ] {
            let got = read(ScorerKind::Score1To5, Form::default(), reply);
            assert_eq!(got, (Some(score >= 3.0), Some(score), reading), "{reply}");
        }
    }

    #[test]
    fn dictionaries_are_read_as_video_chatgpt_reads_them() {
        use Reading::{Guessed, Nothing, Stated};
        for (reply, correct, score, reading) in [
            ("{'pred': 'yes', 'score': 4}", Some(true), Some(4.0), Stated),
            ("{'pred': 'Yes', 'score': 4.8}", Some(true), Some(4.0), Stated),
            ("{'pred': 'no', 'score': '2'}", Some(false), Some(2.0), Stated),
            ("{'pred': 'maybe', 'score': 3}", None, Some(3.0), Guessed),
            ("{'pred': 'no'}", Some(false), None, Guessed),
            ("{'pred': 'yes', 'score': 9}", Some(true), Some(9.0), Guessed),
            ("yes, score 4", None, None, Nothing),
        ] {
            let got = read(ScorerKind::YesNo0To5, Form::VideoChatgpt, reply);
            assert_eq!(got, (correct, score, reading), "{reply}");
        }
    }

    #[test]
    fn yes_and_score_are_found_anywhere_in_the_form_of_llava_hound() {
        use Reading::{Guessed, Nothing, Stated};
        for (reply, correct, score, reading) in [
            ("{'pred': 'yes', 'score': 4.8}", Some(true), Some(4.0), Stated),
            ("Sure: {\"pred\": \"no\", \"score\" : 2}", Some(false), Some(2.0), Stated),
            ("Nothing to say", Some(false), None, Guessed),
            ("{'score': 3}", None, Some(3.0), Guessed),
            ("4", None, None, Nothing),
        ] {
            let got = read(ScorerKind::YesNo0To5, Form::LlavaHound, reply);
            assert_eq!(got, (correct, score, reading), "{reply}");
        }
    }
}
