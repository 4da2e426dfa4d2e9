//! Comparison of two answers in words: the prompt and the parser of its reply. Shared by the judges `verdict`
//! and `http`.

use isr_api::{JudgeCase, Vote};

use super::pattern::{Pattern, Take};
use crate::comparison_prompt::{ChoiceRule, ComparisonPrompt};
use crate::error::JudgeError;

/// Default prompt template.
pub(crate) const DEFAULT_PROMPT: &str = "\
{% if context %}
A description of the video, for reference:
{{ context }}

{% endif %}
Compare two answers to a question about the video.

Question: {{ question }}

Answer {{ choices[0] }}: {{ first }}

Answer {{ choices[1] }}: {{ second }}

Decide which answer is more accurate and helpful, judged by what the video shows. Length is no merit. \
Reply with {{ choices[0] }} or {{ choices[1] }} and nothing else.
";

/// Settings of a [`Comparison`].
pub(crate) struct ComparisonParts<'c> {
    pub(crate) prompt: &'c str,
    pub(crate) choices: &'c [String; 2],
    pub(crate) pattern: Option<&'c str>,
    pub(crate) take: Take,
    pub(crate) use_context: bool,
}

/// A validated question which of two answers is better, with the pattern that parses its reply.
#[derive(Debug)]
pub(crate) struct Comparison {
    prompt: ComparisonPrompt,
    pattern: Pattern,
}

impl Comparison {
    /// Validates prompt, choices and pattern.
    pub(crate) fn new(parts: ComparisonParts<'_>) -> Result<Self, JudgeError> {
        let ComparisonParts { prompt, choices, pattern, take, use_context } = parts;
        let prompt = ComparisonPrompt::new(prompt, choices, ChoiceRule::Matched, use_context)?;
        let pattern = Pattern::new(&pattern.map_or_else(|| strict_pattern(choices), str::to_owned), take)?;
        Ok(Self { prompt, pattern })
    }

    /// The prompt's text for one presentation order.
    pub(crate) fn text(&self, case: &JudgeCase, first_shown_first: bool) -> Result<String, JudgeError> {
        self.prompt.text(case, first_shown_first)
    }

    /// Parses a reply into a vote of probability 0 or 1; `None` if it names neither choice.
    pub(crate) fn vote(&self, reply: &str, first_shown_first: bool) -> Option<Vote> {
        let word = self.pattern.find(reply)?.to_lowercase();
        let choices = self.prompt.choices();
        let choice = choices.iter().position(|choice| choice.trim().to_lowercase() == word)?;
        let prefers_first = (choice == 0) == first_shown_first;
        Some(Vote { first_shown_first, p_first: f64::from(u8::from(prefers_first)) })
    }

    /// Expected reply, for error messages.
    pub(crate) fn wanted(&self) -> String {
        let [first, second] = self.prompt.choices();
        format!("`{first}` or `{second}`")
    }
}

/// Default pattern: a choice at the beginning of the reply, or after "the better answer is". The choice must
/// be followed by punctuation, the end or "is better", so `A dog runs` is not read as choice A.
fn strict_pattern(choices: &[String; 2]) -> String {
    let [first, second] = choices.each_ref().map(|choice| regex::escape(choice.trim()));
    let lead = r"(?i:(?:the )?(?:better )?(?:answer|response|option|choice|verdict)(?: is)?)";
    format!(r"^\W*(?:{lead}\W*)?({first}|{second})(?:[^\w\s]|\s*$|(?i: is (?:better|more)))")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    fn comparison(choices: [&str; 2], pattern: Option<&str>, take: Take) -> Comparison {
        let (choices, prompt) = (&choices.map(str::to_owned), DEFAULT_PROMPT);
        Comparison::new(ComparisonParts { prompt, choices, pattern, take, use_context: true }).unwrap()
    }

    fn read(comparison: &Comparison, reply: &str) -> Option<f64> {
        comparison.vote(reply, true).map(|vote| vote.p_first)
    }

    #[test]
    fn plain_choices_are_read_and_prose_is_not_taken_for_one() {
        let plain = comparison(["A", "B"], None, Take::First);
        for reply in [
            "A",
            "A.",
            "**A**",
            "(A) since it is true",
            "Answer: A",
            "The better answer is A",
            "A is better",
        ] {
            assert_eq!(read(&plain, reply), Some(1.0), "{reply}");
        }
        for reply in ["B", "B: it names the colour", "Answer B.", "\"B\""] {
            assert_eq!(read(&plain, reply), Some(0.0), "{reply}");
        }
        for reply in ["", "A dog runs.", "Both", "C", "As the video shows, B", "I prefer B"] {
            assert_eq!(read(&plain, reply), None, "{reply}");
        }
    }

    #[test]
    fn a_pattern_finds_the_verdict_after_reasoning() {
        let reasoned = comparison(["A", "B"], Some(r"(?i)verdict: (\w+)"), Take::Last);
        assert_eq!(read(&reasoned, "verdict: A? No.\nVerdict: b"), Some(0.0));
        assert_eq!(read(&reasoned, "verdict: neither"), None);
    }

    #[test]
    fn the_vote_is_for_the_answer_and_not_for_the_place() {
        let words = comparison(["first", "second"], None, Take::First);
        assert_eq!(words.vote("second", false).unwrap().p_first, 1.0);
        assert_eq!(words.vote("first", false).unwrap().p_first, 0.0);
    }
}
