//! Errors of `isr-judges`.

use crate::template::TemplateError;

/// Errors of judges and retrospectors, in their settings or at run time.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// Invalid setting; the message names it.
    #[error("{0}")]
    Setting(String),
    /// Invalid rule or regular expression.
    #[error("{key}: {reason}")]
    Pattern {
        /// Config key.
        key: String,
        /// Reason.
        reason: String,
    },
    /// Invalid prompt template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// No reply of a case could be parsed.
    #[error(
        "no verdict in {attempts} replies; the last is `{reply}`, and it must say {wanted}: reword the \
         prompt, or fit the pattern to what the model writes"
    )]
    Unreadable {
        /// Number of replies sampled.
        attempts: usize,
        /// Expected content of a reply.
        wanted: String,
        /// Beginning of the last reply.
        reply: String,
    },
    /// A reply ended at its limit of tokens before it came to an answer.
    #[error("the reply was cut at {limit} while reasoning; raise it")]
    Cut {
        /// Setting and value of the limit.
        limit: String,
    },
    /// The policy wrote an empty description of a video.
    #[error("{video}: the policy wrote an empty description")]
    EmptyDescription {
        /// The video's key.
        video: String,
    },
    /// The two choices together are too improbable for a verdict.
    #[error(
        "no verdict: `{first}` and `{second}` together have a probability of {mass:.2e}, less than \
         min_choice_mass ({limit}); the prompt must make the model answer with one of them"
    )]
    NoVerdict {
        /// First choice.
        first: String,
        /// Second choice.
        second: String,
        /// Total probability of both.
        mass: f64,
        /// Minimum, `min_choice_mass`.
        limit: f64,
    },
    /// The policy broke its contract: it must return one log-prob sum per choice.
    #[error("the policy was to score two choices, and returned log-probs {got:?}; each needs a number")]
    Scores {
        /// Returned log-probs, summed over tokens; 0 for a choice without tokens.
        got: Vec<f64>,
    },
}
