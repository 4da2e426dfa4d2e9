//! The question which of two answers is better, and reading the reply; shared by the judges `verdict` and
//! `http`.

use isr_api::{JudgeCase, Vote};
use minijinja::context;

use super::pattern::{Pattern, Take};
use crate::error::JudgeError;
use crate::template::{Template, TemplateError, Variables};

/// What the question is unless a config says otherwise.
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

const VARIABLES: Variables =
    Variables { required: &["question", "first", "second"], optional: &["context", "choices"] };

/// What a config says of the question.
pub(crate) struct ComparisonParts<'c> {
    pub(crate) prompt: &'c str,
    pub(crate) choices: &'c [String; 2],
    pub(crate) pattern: Option<&'c str>,
    pub(crate) take: Take,
    pub(crate) use_context: bool,
}

/// A question about two answers that has passed its checks.
#[derive(Debug)]
pub(crate) struct Comparison {
    template: Template,
    choices: [String; 2],
    pattern: Pattern,
    use_context: bool,
}

impl Comparison {
    /// Checks prompt, choices and pattern.
    pub(crate) fn new(parts: ComparisonParts<'_>) -> Result<Self, JudgeError> {
        let ComparisonParts { prompt, choices, pattern, take, use_context } = parts;
        check_choices(choices)?;
        let template = Template::new("prompt", prompt, &VARIABLES)?;
        if use_context {
            // Else a run that says it has the method's context would silently be one without.
            template.must_use("context", "use_context")?;
        }
        let pattern = Pattern::new(&pattern.map_or_else(|| strict_pattern(choices), str::to_owned), take)?;
        let comparison = Self { template, choices: choices.clone(), pattern, use_context };
        for context in [None, Some("a dog runs.")] {
            comparison.render("what runs?", context, ["a dog.", "a cat."])?;
        }
        Ok(comparison)
    }

    /// The question's text, with the answers in an order of showing.
    pub(crate) fn text(&self, case: &JudgeCase, first_shown_first: bool) -> Result<String, JudgeError> {
        let context = case.context.as_ref().filter(|_| self.use_context);
        let context = context.map(|context| context.text.trim());
        Ok(self.render(case.instruction.trim(), context, shown(case, first_shown_first))?)
    }

    fn render(
        &self,
        question: &str,
        context: Option<&str>,
        [first, second]: [&str; 2],
    ) -> Result<String, TemplateError> {
        let choices = &self.choices;
        self.template.render(context! { question, context, first, second, choices })
    }

    /// The vote that a reply gives; none if it names neither choice.
    pub(crate) fn vote(&self, reply: &str, first_shown_first: bool) -> Option<Vote> {
        let word = self.pattern.find(reply)?.to_lowercase();
        let choice = self.choices.iter().position(|choice| choice.trim().to_lowercase() == word)?;
        let prefers_first = (choice == 0) == first_shown_first;
        Some(Vote { first_shown_first, p_first: f64::from(u8::from(prefers_first)) })
    }

    /// What a reply has to say.
    pub(crate) fn wanted(&self) -> String {
        format!("`{}` or `{}`", self.choices[0], self.choices[1])
    }
}

/// The answers in an order of showing.
pub(crate) fn shown(case: &JudgeCase, first_shown_first: bool) -> [&str; 2] {
    let (first, second) = (case.first.text.trim(), case.second.text.trim());
    if first_shown_first { [first, second] } else { [second, first] }
}

fn check_choices([first, second]: &[String; 2]) -> Result<(), JudgeError> {
    let reason = if first.trim().is_empty() || second.trim().is_empty() {
        "choices has an empty reply; give two words that the model can say".to_owned()
    } else if first.trim().to_lowercase() == second.trim().to_lowercase() {
        format!("choices are `{first}` and `{second}`; they must differ in more than case")
    } else {
        return Ok(());
    };
    Err(JudgeError::Setting(reason))
}

/// Matches a reply that begins with a choice, or with "the better answer is" and a choice. `A dog runs` is
/// no choice of A: a choice is followed by punctuation, by the end, or by "is better".
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
