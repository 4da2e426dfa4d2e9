//! Errors of prompt templates.

/// Invalid prompt template.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Syntax or rendering error; the message starts with the config key.
    #[error("{key}, line {line}: {reason}")]
    Unusable {
        /// Config key of the template.
        key: &'static str,
        /// Line within the template, counted from 1.
        line: usize,
        /// Message of the template engine.
        reason: String,
    },
    /// Use of an unknown variable.
    #[error("{key} uses `{name}`, which is not known here; it may use {known}")]
    UnknownVariable {
        /// Config key of the template.
        key: &'static str,
        /// Name of the variable.
        name: String,
        /// Names of the known variables.
        known: String,
    },
    /// No use of a required variable.
    #[error("{key} does not use `{name}`; without {{{{ {name} }}}} the model cannot answer")]
    UnusedVariable {
        /// Config key of the template.
        key: &'static str,
        /// Name of the variable.
        name: &'static str,
    },
    /// No use of a variable that a switch of the config promises to show.
    #[error("{key} does not use `{name}`; write {{{{ {name} }}}} into it, or set {switch} = false")]
    IgnoredVariable {
        /// Config key of the template.
        key: &'static str,
        /// Name of the variable.
        name: &'static str,
        /// Config key of the switch.
        switch: &'static str,
    },
}
