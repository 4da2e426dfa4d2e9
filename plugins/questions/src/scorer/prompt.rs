//! Prompts of the published scorers.
//!
//! They are facts of the methods, and compared scores need the same words: LLaVA-Hound's from
//! `llava_hound_dpo/test/eval/eval_qa.py` and `eval_official_qa.py` (the authors' `Evaluation/eval/eval_qa.py` has the
//! former), Video-ChatGPT's from `quantitative_evaluation/evaluate_activitynet_qa.py`. Line breaks and spaces are those
//! that the scripts send, trailing ones included.

use super::config::{Form, ScorerKind};
use super::marker::Case;

/// LLaVA-Hound's prompt of a score from 1 to 5.
const SCORE_1_5: &str = include_str!("prompts/llava_hound_score_1_5.txt");

/// LLaVA-Hound's form of Video-ChatGPT's prompt.
const YES_NO_LLAVA_HOUND: [&str; 2] =
    [include_str!("prompts/llava_hound_yes_no_system.txt"), include_str!("prompts/llava_hound_yes_no.txt")];

/// Video-ChatGPT's prompt.
const YES_NO_VIDEO_CHATGPT: [&str; 2] = [
    include_str!("prompts/video_chatgpt_yes_no_system.txt"),
    include_str!("prompts/video_chatgpt_yes_no.txt"),
];

/// Placeholders of a prompt.
const NAMES: [&str; 4] = ["caption", "question", "answer", "prediction"];

/// A prompt with placeholders, and a system prompt.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) system: Option<String>,
    pub(super) text: String,
}

impl Prompt {
    /// The published prompt of a scorer that asks a model; a text given replaces it, not the system prompt.
    pub(super) fn published(scorer: ScorerKind, form: Form, text: Option<&str>) -> Option<Self> {
        let (system, published) = match (scorer, form) {
            (ScorerKind::Score1To5, _) => (None, SCORE_1_5),
            (ScorerKind::YesNo0To5, Form::VideoChatgpt) => {
                (Some(YES_NO_VIDEO_CHATGPT[0]), YES_NO_VIDEO_CHATGPT[1])
            }
            (ScorerKind::YesNo0To5, Form::LlavaHound) => {
                (Some(YES_NO_LLAVA_HOUND[0]), YES_NO_LLAVA_HOUND[1])
            }
            _ => return None,
        };
        Some(Self { system: system.map(str::to_owned), text: text.unwrap_or(published).to_owned() })
    }

    /// Checks a prompt of a user's.
    pub(super) fn check(text: &str) -> Result<(), String> {
        for name in &NAMES[1..] {
            if !text.contains(&format!("{{{name}}}")) {
                return Err(format!("lacks {{{name}}}"));
            }
        }
        let fill = fill(text, |_| Some(""));
        fill.map(drop)
    }

    /// Whether it shows the caption.
    pub(super) fn needs_caption(&self) -> bool {
        self.text.contains("{caption}")
    }

    /// The text of one case, whose prediction is already cut.
    pub(super) fn fill(&self, case: &Case<'_>, prediction: &str) -> Result<String, String> {
        fill(&self.text, |name| match name {
            "caption" => case.caption,
            "question" => Some(case.question),
            "answer" => Some(case.answer),
            "prediction" => Some(prediction),
            _ => None,
        })
    }
}

/// Fills placeholders as Python's `str.format`: `{name}`, and `{{` and `}}` for braces.
fn fill<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            filled.push_str(&from[..1]);
            rest = after;
            continue;
        }
        let name = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let (name, after) = name.ok_or("has a single brace; write `{{` or `}}` for one that is text")?;
        if !NAMES.contains(&name) {
            let known = NAMES.join("}, {");
            return Err(format!("names {{{name}}}; it may name {{{known}}}"));
        }
        filled.push_str(value(name).ok_or_else(|| format!("has no {name} to show"))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_and_names_are_those_of_python() {
        let value = |name: &str| (name == "question").then_some("{answer}");
        assert_eq!(fill("{{'a'}} {question}", value).unwrap(), "{'a'} {answer}");
        assert!(fill("{answer}", value).unwrap_err().contains("no answer"));
        assert!(fill("{other}", value).unwrap_err().starts_with("names {other}"));
        assert!(fill("a } b", value).unwrap_err().contains("single brace"));
        assert!(Prompt::check("{question} {answer}").unwrap_err().contains("lacks {prediction}"));
        assert!(Prompt::check("{question} {answer} {prediction}").is_ok());
    }
}
