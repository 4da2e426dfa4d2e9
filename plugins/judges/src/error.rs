//! Errors of `isr-judges`.

use isr_template::TemplateError;

/// What goes wrong while judging.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// A setting cannot be used; the message names it.
    #[error("{0}")]
    Setting(String),
    /// A rule or a regular expression cannot be used.
    #[error("{key}: {reason}")]
    Pattern {
        /// The config key that holds it.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A prompt template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// No reply could be read.
    #[error(
        "no verdict in {attempts} replies; the last is `{reply}`, and it must say {wanted}: reword the \
         prompt, or fit the pattern to what the model writes"
    )]
    Unreadable {
        /// How often the case was asked.
        attempts: usize,
        /// What a reply must say.
        wanted: String,
        /// The beginning of the last reply.
        reply: String,
    },
}
