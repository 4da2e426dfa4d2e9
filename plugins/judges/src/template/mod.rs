//! Prompt templates: validated with the config, rendered for each case.
//!
//! Templates are Jinja (minijinja), with `trim_blocks` and `lstrip_blocks` as in Hugging Face chat
//! templates: a line with only a `{% ... %}` tag is removed. One trailing newline is removed. Values are
//! inserted verbatim, without escaping, and are never evaluated as templates.

mod error;

use std::collections::BTreeSet;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

pub use error::TemplateError;

/// Variables of a template.
pub(crate) struct Variables {
    /// Variables that a template must use.
    pub(crate) required: &'static [&'static str],
    /// Variables that it may use. Those without a value are `none`, so `{% if name %}` works.
    pub(crate) optional: &'static [&'static str],
}

/// A validated template.
#[derive(Debug)]
pub(crate) struct Template {
    key: &'static str,
    source: String,
    used: BTreeSet<String>,
    environment: Environment<'static>,
}

impl Template {
    /// Validates a template: syntax, unknown variables, required variables. `key` is its config key, with
    /// which every message starts.
    pub(crate) fn new(
        key: &'static str,
        source: &str,
        variables: &Variables,
    ) -> Result<Self, TemplateError> {
        let source = source.to_owned();
        let mut template = Self { key, source, used: BTreeSet::new(), environment: environment() };
        let parsed = template.environment.template_from_named_str(key, &template.source);
        let used = parsed.map_err(|error| template.error(&error))?.undeclared_variables(false);
        template.used = used.into_iter().collect();
        template.check_names(variables)?;
        Ok(template)
    }

    /// Requires an optional variable whose switch is on.
    pub(crate) fn must_use(&self, name: &'static str, switch: &'static str) -> Result<(), TemplateError> {
        if self.used.contains(name) {
            return Ok(());
        }
        Err(TemplateError::IgnoredVariable { key: self.key, name, switch })
    }

    /// Renders the template.
    pub(crate) fn render(&self, values: Value) -> Result<String, TemplateError> {
        let parsed = self.environment.template_from_named_str(self.key, &self.source);
        parsed.and_then(|template| template.render(values)).map_err(|error| self.error(&error))
    }

    fn check_names(&self, variables: &Variables) -> Result<(), TemplateError> {
        let Variables { required, optional } = *variables;
        if let Some(&name) = required.iter().find(|&&name| !self.used.contains(name)) {
            return Err(TemplateError::UnusedVariable { key: self.key, name });
        }
        let known: Vec<&str> = required.iter().chain(optional).copied().collect();
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let is_known = |name: &str| known.contains(&name) || globals.contains(name);
        match self.used.iter().find(|name| !is_known(name)) {
            Some(name) => Err(TemplateError::UnknownVariable {
                key: self.key,
                name: name.clone(),
                known: known.join(", "),
            }),
            None => Ok(()),
        }
    }

    fn error(&self, error: &minijinja::Error) -> TemplateError {
        let kind = error.kind().to_string();
        let reason = error.detail().map_or_else(|| kind.clone(), |detail| format!("{kind}: {detail}"));
        TemplateError::Unusable { key: self.key, line: error.line().unwrap_or(1), reason }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use minijinja::context;

    use super::*;

    const VARIABLES: Variables = Variables { required: &["question"], optional: &["context"] };

    fn refused(source: &str) -> String {
        Template::new("prompt", source, &VARIABLES).unwrap_err().to_string()
    }

    #[test]
    fn text_is_inserted_as_it_stands() {
        let source = "{% if context %}\n{{ context }}\n{% endif %}\n{{ question }}\n";
        let template = Template::new("prompt", source, &VARIABLES).unwrap();
        let text = template.render(context! { context => "<b>", question => "{{ context }}?" }).unwrap();
        assert_eq!(text, "<b>\n{{ context }}?");
        let none: Option<&str> = None;
        let text = template.render(context! { context => none, question => "why?" }).unwrap();
        assert_eq!(text, "why?");
    }

    #[test]
    fn what_is_wrong_is_said_by_key_and_name() {
        assert!(refused("{{ question }}\n{% if").starts_with("prompt, line 2: syntax error"));
        assert!(refused("{{ context }}").starts_with("prompt does not use `question`"));
        let unknown = refused("{{ question }} {{ answer }}");
        assert_eq!(unknown, "prompt uses `answer`, which is not known here; it may use question, context");
        let template = Template::new("prompt", "{{ question }}", &VARIABLES).unwrap();
        let ignored = template.must_use("context", "use_context").unwrap_err().to_string();
        assert!(ignored.ends_with("or set use_context = false"), "{ignored}");
    }
}
