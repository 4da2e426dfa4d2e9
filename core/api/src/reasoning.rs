//! Reasoning that models write before their answers, such as `<think> ... </think>`, and how it is told apart.
//!
//! A text reads as vLLM's reasoning parsers read it (`qwen3`, `deepseek_r1`, `glm45`): reasoning ends at the first closing
//! marker, the opening marker may stand in the prompt, and a text that ends within its reasoning has no answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::response::Response;

/// Reasoning of a response: what its model wrote before the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// Decoded text without markers and surrounding white space.
    pub text: String,
    /// Number of tokens before the answer, markers included; all tokens of a response that ends within its reasoning.
    pub tokens: usize,
}

/// Markers between which a model writes its reasoning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasoningMarkers {
    /// Text that opens the reasoning, such as `<think>`.
    pub open: String,
    /// Text that closes the reasoning, such as `</think>`.
    pub close: String,
}

impl Default for ReasoningMarkers {
    /// `<think>` and `</think>`.
    fn default() -> Self {
        Self { open: "<think>".to_owned(), close: "</think>".to_owned() }
    }
}

impl ReasoningMarkers {
    /// Returns the answer in a text of whose prompt nothing is known, such as an earlier turn or a server's reply: what
    /// stands behind the last closing marker, as in Qwen3's chat template. `None` if the reasoning does not end.
    pub fn answer_in<'t>(&self, text: &'t str) -> Option<&'t str> {
        match text.rsplit_once(self.close.as_str()) {
            Some((_, answer)) => Some(answer),
            None => (!text.trim_start().starts_with(self.open.as_str())).then_some(text),
        }
    }

    /// Checks that both are texts and differ.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn check(&self) -> Result<(), String> {
        let Self { open, close } = self;
        match open.trim().is_empty() || close.trim().is_empty() || open == close {
            true => {
                Err(format!("has the markers {open:?} and {close:?}, which must be two different texts"))
            }
            false => Ok(()),
        }
    }
}

/// Returns the answer in a reply, behind its reasoning (`</think>`); `None` if the reasoning does not end.
pub fn without_reasoning(reply: &str) -> Option<&str> {
    ReasoningMarkers::default().answer_in(reply)
}

/// Reasoning and answer of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonedText<'t> {
    /// Reasoning without markers and surrounding white space.
    pub reasoning: &'t str,
    /// Answer without surrounding white space; `None` if the text ends within its reasoning.
    pub answer: Option<&'t str>,
}

/// Form in which a policy writes reasoning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningFormat {
    /// Markers; flattened into this object.
    #[serde(flatten)]
    pub markers: ReasoningMarkers,
    /// Whether the prompt ends with the opening marker, so that responses begin within their reasoning.
    #[serde(default)]
    pub opened: bool,
}

impl ReasoningFormat {
    /// Separates the text of a response; `None` if it has no reasoning.
    pub fn split<'t>(&self, text: &'t str) -> Option<ReasonedText<'t>> {
        let inside = self.inside(text)?;
        Some(match inside.split_once(self.markers.close.as_str()) {
            Some((reasoning, answer)) => {
                ReasonedText { reasoning: reasoning.trim(), answer: Some(answer.trim()) }
            }
            None => ReasonedText { reasoning: inside.trim(), answer: None },
        })
    }

    /// Separates the beginning of a text that grows. Reasoning and answer are beginnings of what [`split`](Self::split)
    /// returns in the end: what may become a marker is held back, and an answer may end with white space.
    pub fn split_partial<'t>(&self, text: &'t str) -> [&'t str; 2] {
        let start = text.trim_start();
        if start.len() < self.markers.open.len() && self.markers.open.starts_with(start) {
            return ["", ""];
        }
        let Some(inside) = self.inside(text) else { return ["", text] };
        match inside.split_once(self.markers.close.as_str()) {
            Some((reasoning, answer)) => [reasoning.trim(), answer.trim_start()],
            None => {
                let held = partial_end(inside, &self.markers.close);
                [inside[..inside.len() - held].trim(), ""]
            }
        }
    }

    /// Returns the text behind the opening marker, with what follows the reasoning.
    fn inside<'t>(&self, text: &'t str) -> Option<&'t str> {
        let behind = text.trim_start().strip_prefix(self.markers.open.as_str());
        behind.or_else(|| self.opened.then_some(text))
    }

    /// Separates a response whose text is still whole. `text_of` decodes the first tokens of it, by their number, with
    /// markers.
    ///
    /// # Errors
    /// Those of `text_of`.
    pub fn separate<E>(
        &self,
        response: Response,
        mut text_of: impl FnMut(usize) -> Result<String, E>,
    ) -> Result<Response, E> {
        let Some(ReasonedText { reasoning, answer }) = self.split(&response.text) else {
            return Ok(response);
        };
        let mut tokens = response.token_ids.len();
        if answer.is_some() {
            // The first number of tokens whose text has the closing marker.
            let mut before = 0;
            while before + 1 < tokens {
                let middle = before.midpoint(tokens);
                let closed = self.split(&text_of(middle)?).is_some_and(|part| part.answer.is_some());
                *(if closed { &mut tokens } else { &mut before }) = middle;
            }
        }
        let reasoning = Some(Reasoning { text: reasoning.to_owned(), tokens });
        Ok(Response { text: answer.unwrap_or_default().to_owned(), reasoning, ..response })
    }
}

/// Returns the length in bytes of the longest proper prefix of `whole` that `text` ends with.
pub fn partial_end(text: &str, whole: &str) -> usize {
    let starts = whole.char_indices().map(|(end, _)| end).rev();
    starts.into_iter().find(|&end| text.ends_with(&whole[..end])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fingerprint, FinishReason};

    const WHOLE: &str = "<think>\nA bar < a box.\n</think>\n\nIt falls. </think> is no marker here.";

    fn format(opened: bool) -> ReasoningFormat {
        ReasoningFormat { opened, ..ReasoningFormat::default() }
    }

    #[test]
    fn only_what_follows_the_reasoning_is_read() {
        assert_eq!(without_reasoning("A"), Some("A"));
        assert_eq!(without_reasoning("<think>A? No.</think>\nB"), Some("\nB"));
        // Templates that open the reasoning themselves.
        assert_eq!(without_reasoning("A? No.</think>B"), Some("B"));
        assert_eq!(without_reasoning(" <think>A it is, or B"), None);
    }

    #[test]
    fn reasoning_ends_at_the_first_closing_marker() {
        let both = |reasoning, answer| Some(ReasonedText { reasoning, answer });
        let (said, answer) = ("A bar < a box.", Some("It falls. </think> is no marker here."));
        assert_eq!(format(false).split(WHOLE), both(said, answer));
        // Opened in the prompt; some models repeat the marker.
        assert_eq!(format(true).split(WHOLE), both(said, answer));
        assert_eq!(format(true).split(WHOLE.strip_prefix("<think>\n").unwrap()), both(said, answer));
        assert_eq!(format(true).split("It falls."), both("It falls.", None));
        assert_eq!(format(false).split(" <think> It"), both("It", None));
        assert_eq!(format(false).split("<think></think>Up"), both("", Some("Up")));
        // No reasoning: what the model did not open is ordinary text.
        assert_eq!(format(false).split("It falls.</think>"), None);
    }

    #[test]
    fn what_is_told_of_a_growing_text_begins_what_it_becomes() {
        for (opened, whole) in
            [(false, WHOLE), (true, WHOLE), (true, &WHOLE[8..]), (false, "<thin ice> breaks")]
        {
            let format = format(opened);
            let [mut reasoning, mut answer] = [String::new(), String::new()];
            for end in (0..=whole.len()).filter(|end| whole.is_char_boundary(*end)) {
                let [now, then] = format.split_partial(&whole[..end]);
                assert!(
                    now.starts_with(&reasoning) && then.starts_with(answer.trim_end()),
                    "{end} {now:?}"
                );
                (reasoning, answer) = (now.to_owned(), then.to_owned());
            }
            match format.split(whole) {
                Some(split) => {
                    assert_eq!((split.reasoning, split.answer), (&*reasoning, Some(answer.trim())))
                }
                None => assert_eq!(answer, whole),
            }
        }
    }

    #[test]
    fn a_response_keeps_its_tokens_and_knows_where_its_answer_begins() {
        let response = |text: &str| Response {
            text: text.to_owned(),
            token_ids: text.bytes().map(u32::from).collect(),
            logprobs: vec![-0.5; text.len()],
            finish_reason: FinishReason::Length,
            policy: Fingerprint::of("p"),
            reasoning: None,
        };
        let separated = |text: &str, opened| {
            let first = |count: usize| Ok::<_, ()>(text[..count].to_owned());
            format(opened).separate(response(text), first).unwrap()
        };
        for opened in [false, true] {
            let text = "<think>hm</think> Up.";
            let said = separated(text, opened);
            assert_eq!((&*said.text, said.token_ids.len()), ("Up.", text.len()));
            assert_eq!(said.reasoning, Some(Reasoning { text: "hm".to_owned(), tokens: 17 }));
            assert_eq!((said.answer_tokens(), said.is_unanswered()), (4, false));
            let alone = said.answer_alone();
            assert_eq!((alone.token_ids.len(), alone.logprobs.len(), alone.reasoning), (4, 4, None));
        }
        let cut = separated("hm, a bar", true);
        assert_eq!((cut.answer_tokens(), cut.is_unanswered(), &*cut.text), (0, true, ""));
        let plain = response("Up.");
        assert_eq!(separated("Up.", false), plain);
        assert_eq!((plain.answer_tokens(), plain.is_unanswered()), (3, false));
        assert!(!serde_json::to_string(&plain).unwrap().contains("reasoning"));
    }
}
