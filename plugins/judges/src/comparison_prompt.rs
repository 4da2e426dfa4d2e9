//! The prompt that asks which of two answers is better; shared by the judges `self`, `verdict` and `http`.

use isr_api::JudgeCase;
use minijinja::context;

use crate::error::JudgeError;
use crate::prompt::visible_context;
use crate::template::{Template, TemplateError, Variables};

const VARIABLES: Variables =
    Variables { required: &["question", "first", "second"], optional: &["context", "choices"] };

/// How a judge tells its two choices apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChoiceRule {
    /// By their log-probs as prefixes of the reply: neither may be a prefix of the other.
    Scored,
    /// By matching the reply's text in any case: they must differ in more than case.
    Matched,
}

/// A validated prompt template over two answers and the two choices that stand for them.
#[derive(Debug)]
pub(crate) struct ComparisonPrompt {
    template: Template,
    choices: [String; 2],
    use_context: bool,
}

impl ComparisonPrompt {
    /// Validates template and choices.
    ///
    /// # Errors
    /// A choice that is empty or not distinct by the rule, or a template that does not parse, does not
    /// render, or leaves out a required variable.
    pub(crate) fn new(
        template: &str,
        choices: &[String; 2],
        rule: ChoiceRule,
        use_context: bool,
    ) -> Result<Self, JudgeError> {
        check_choices(choices, rule).map_err(JudgeError::Setting)?;
        let template = Template::new("prompt", template, &VARIABLES)?;
        if use_context {
            // Otherwise a run configured with the method's context would silently be one without.
            template.must_use("context", "use_context")?;
        }
        let prompt = Self { template, choices: choices.clone(), use_context };
        for context in [None, Some("a dog runs.")] {
            prompt.render("what runs?", context, ["a dog.", "a cat."])?;
        }
        Ok(prompt)
    }

    /// The replies that stand for the answer shown first and the answer shown second.
    pub(crate) fn choices(&self) -> &[String; 2] {
        &self.choices
    }

    /// The prompt's text for one presentation order.
    pub(crate) fn text(&self, case: &JudgeCase, first_shown_first: bool) -> Result<String, JudgeError> {
        let context = visible_context(case, self.use_context);
        Ok(self.render(case.instruction.trim(), context, presented(case, first_shown_first))?)
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
}

/// The answers' texts in a presentation order.
pub(crate) fn presented(case: &JudgeCase, first_shown_first: bool) -> [&str; 2] {
    let (first, second) = (case.first.text.trim(), case.second.text.trim());
    if first_shown_first { [first, second] } else { [second, first] }
}

fn check_choices([first, second]: &[String; 2], rule: ChoiceRule) -> Result<(), String> {
    if first.trim().is_empty() || second.trim().is_empty() {
        return Err("choices has an empty reply; give two words that the model can say".to_owned());
    }
    let (same, why) = match rule {
        ChoiceRule::Scored => (
            first.starts_with(second.as_str()) || second.starts_with(first.as_str()),
            "neither may begin with the other, or saying one would count for both",
        ),
        ChoiceRule::Matched => (
            first.trim().to_lowercase() == second.trim().to_lowercase(),
            "they must differ in more than case",
        ),
    };
    if same { Err(format!("choices are `{first}` and `{second}`; {why}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(choices: [&str; 2], rule: ChoiceRule) -> Option<String> {
        check_choices(&choices.map(str::to_owned), rule).err()
    }

    #[test]
    fn scored_choices_are_no_prefixes_and_matched_ones_differ_in_more_than_case() {
        assert_eq!(refused(["A", "a"], ChoiceRule::Scored), None);
        assert_eq!(refused(["yes", "yes, b"], ChoiceRule::Matched), None);
        assert!(
            refused(["yes", "yes, b"], ChoiceRule::Scored).is_some_and(|text| text.contains("neither"))
        );
        assert!(refused([" a", "A"], ChoiceRule::Matched).is_some_and(|text| text.contains("case")));
        for rule in [ChoiceRule::Scored, ChoiceRule::Matched] {
            assert!(refused(["A", " "], rule).is_some_and(|text| text.starts_with("choices has an empty")));
        }
    }
}
