//! Scoring of a single answer; shared by the judges `pointwise` and `rubric`.

use isr_api::{ComponentError, FrozenPolicy, JudgeCase};
use minijinja::{Value, context};

use super::asker::{Asker, Question};
use super::criterion::Criterion;
use super::pattern::{Pattern, Take};
use crate::error::JudgeError;
use crate::prompt::visible_context;
use crate::template::{Template, TemplateError, Variables};

/// Default pattern: a decimal number.
pub(crate) const NUMBER: &str = r"-?\d+(?:\.\d+)?";

/// Settings of a [`Scorer`].
pub(crate) struct ScorerParts<'c> {
    pub(crate) prompt: &'c str,
    pub(crate) variables: &'static Variables,
    pub(crate) scale: [f64; 2],
    pub(crate) pattern: &'c str,
    pub(crate) take: Take,
    pub(crate) use_context: bool,
}

/// Asks the policy for a score of one answer and parses it.
#[derive(Debug)]
pub(crate) struct Scorer {
    asker: Asker,
    template: Template,
    scale: [f64; 2],
    pattern: Pattern,
    use_context: bool,
}

impl Scorer {
    /// Validates prompt, scale and pattern.
    pub(crate) fn new(asker: Asker, parts: ScorerParts<'_>) -> Result<Self, JudgeError> {
        let ScorerParts { prompt, variables, scale, pattern, take, use_context } = parts;
        asker.reply.validate().map_err(JudgeError::Setting)?;
        let [least, most] = scale;
        if !(least.is_finite() && most.is_finite() && least < most) {
            let reason = format!("scale is [{least}, {most}]; it must rise from a number to a larger one");
            return Err(JudgeError::Setting(reason));
        }
        let template = Template::new("prompt", prompt, variables)?;
        if use_context {
            template.must_use("context", "use_context")?;
        }
        let scorer = Self { asker, template, scale, pattern: Pattern::new(pattern, take)?, use_context };
        let criterion = Criterion::named("accuracy", "is what is said true?", 1.0);
        for context in [None, Some("a dog runs.")] {
            scorer.render("what runs?", context, "a dog.", Some(&criterion))?;
        }
        Ok(scorer)
    }

    /// The policy's score of an answer, within the scale; by a criterion if one is given.
    pub(crate) async fn score(
        &self,
        case: &JudgeCase,
        policy: &FrozenPolicy,
        answer: &str,
        criterion: Option<&Criterion>,
    ) -> Result<f64, ComponentError> {
        let context = visible_context(case, self.use_context);
        let text = self.render(case.instruction.trim(), context, answer.trim(), criterion);
        let text = text.map_err(ComponentError::bad_input)?;
        let [least, most] = self.scale;
        let wanted = format!("a score from {least} to {most}");
        let subject = criterion.map_or_else(|| answer.to_owned(), |by| format!("{}\n{answer}", by.name));
        let question = Question { text, stage: "score", subject: &subject, wanted };
        self.asker.ask(case, policy, question, |reply| self.read(reply)).await
    }

    /// Parses a score; `None` without a number, or with one outside the scale.
    fn read(&self, reply: &str) -> Option<f64> {
        let score = self.pattern.find(reply)?.parse().ok()?;
        (self.scale[0]..=self.scale[1]).contains(&score).then_some(score)
    }

    fn render(
        &self,
        question: &str,
        context: Option<&str>,
        answer: &str,
        criterion: Option<&Criterion>,
    ) -> Result<String, TemplateError> {
        let [least, most] = self.scale.map(written);
        let description = criterion.map(|criterion| criterion.description.as_str());
        let criterion = criterion.map(|criterion| criterion.name.as_str());
        self.template.render(context! { question, context, answer, least, most, criterion, description })
    }
}

/// A number without a trailing `.0`, as the prompt shows it.
fn written(number: f64) -> Value {
    if number.fract() == 0.0 { Value::from(number as i64) } else { Value::from(number) }
}
