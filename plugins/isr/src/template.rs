//! Prompt templates: checked when the config is read, rendered when a case is asked.

use std::collections::BTreeSet;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::error::MethodError;

/// The variables of a template, and which of them it must use.
pub(crate) struct Variables {
    /// Names that every usable template mentions.
    pub(crate) required: &'static [&'static str],
    /// Names that it may mention. Those without a value are `none`, so `{% if name %}` works.
    pub(crate) optional: &'static [&'static str],
}

/// A template that has passed its checks.
#[derive(Debug)]
pub(crate) struct Template {
    key: &'static str,
    source: String,
    used: BTreeSet<String>,
    environment: Environment<'static>,
}

impl Template {
    /// Checks a template: it parses, knows its variables, and uses those that it must.
    pub(crate) fn new(key: &'static str, source: &str, variables: &Variables) -> Result<Self, MethodError> {
        let source = source.to_owned();
        let mut template = Self { key, source, used: BTreeSet::new(), environment: environment() };
        let parsed = template.environment.template_from_named_str(key, &template.source);
        let used = parsed.map_err(|error| template.error(&error))?.undeclared_variables(false);
        template.used = used.into_iter().collect();
        template.check_names(variables)?;
        Ok(template)
    }

    /// Refuses a template that leaves out an optional variable whose switch is on.
    pub(crate) fn must_use(&self, name: &'static str, switch: &'static str) -> Result<(), MethodError> {
        if self.used.contains(name) {
            return Ok(());
        }
        Err(MethodError::IgnoredVariable { key: self.key, name, switch })
    }

    /// The text for some values of its variables.
    pub(crate) fn render(&self, values: Value) -> Result<String, MethodError> {
        let parsed = self.environment.template_from_named_str(self.key, &self.source);
        parsed.and_then(|template| template.render(values)).map_err(|error| self.error(&error))
    }

    fn check_names(&self, variables: &Variables) -> Result<(), MethodError> {
        let Variables { required, optional } = *variables;
        if let Some(&name) = required.iter().find(|&&name| !self.used.contains(name)) {
            return Err(MethodError::UnusedVariable { key: self.key, name });
        }
        let known: Vec<&str> = required.iter().chain(optional).copied().collect();
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let is_known = |name: &str| known.contains(&name) || globals.contains(name);
        match self.used.iter().find(|name| !is_known(name)) {
            Some(name) => Err(MethodError::UnknownVariable {
                key: self.key,
                name: name.clone(),
                known: known.join(", "),
            }),
            None => Ok(()),
        }
    }

    fn error(&self, error: &minijinja::Error) -> MethodError {
        let kind = error.kind().to_string();
        let reason = error.detail().map_or_else(|| kind.clone(), |detail| format!("{kind}: {detail}"));
        MethodError::Template { key: self.key, line: error.line().unwrap_or(1), reason }
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
