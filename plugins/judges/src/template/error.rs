//! Errors of prompt templates.

/// Why a prompt template cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A prompt template cannot be used; the message starts with its key.
    #[error("{key}, line {line}: {reason}")]
    Unusable {
        /// The config key that holds the template.
        key: &'static str,
        /// Line within the template, from 1.
        line: usize,
        /// What the template engine says.
        reason: String,
    },
    /// A prompt template names something that is not there.
    #[error("{key} uses `{name}`, which is not known here; it may use {known}")]
    UnknownVariable {
        /// The config key that holds the template.
        key: &'static str,
        /// The name.
        name: String,
        /// The names that it may use.
        known: String,
    },
    /// A prompt template leaves out what the model must see.
    #[error("{key} does not use `{name}`; without {{{{ {name} }}}} the model cannot answer")]
    UnusedVariable {
        /// The config key that holds the template.
        key: &'static str,
        /// The name.
        name: &'static str,
    },
    /// A prompt template leaves out what a switch says is shown.
    #[error("{key} does not use `{name}`; write {{{{ {name} }}}} into it, or set {switch} = false")]
    IgnoredVariable {
        /// The config key that holds the template.
        key: &'static str,
        /// The name.
        name: &'static str,
        /// The config key of the switch.
        switch: &'static str,
    },
}
