//! Errors of `isr-judges`.

use std::path::PathBuf;

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
    /// The environment variable of the API key is not set.
    #[error("environment variable {variable} is not set; set it to the key, or leave out api_key_env")]
    NoKey {
        /// Name of the variable.
        variable: String,
    },
    /// Invalid file of certificate authorities.
    #[error("ca_file {path}: {reason}; it must hold certificates as PEM")]
    Authorities {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
    /// Failure to build or use the HTTP client.
    #[error("cannot talk HTTP: {0}")]
    Client(String),
    /// The server rejected a request with a status that a retry cannot change.
    #[error("the server said {status}: {text}; see base_url, model, the key and the length of the prompt")]
    Refused {
        /// Status code and reason phrase.
        status: String,
        /// Beginning of the response body, without the key.
        text: String,
    },
    /// The server rejected a parameter that every request has.
    #[error("the server said {status}: {text}; it does not take this judge's `{parameter}`: {remedy}")]
    Parameter {
        /// Status code and reason phrase.
        status: String,
        /// Beginning of the response body, without the key.
        text: String,
        /// Key of the request body.
        parameter: String,
        /// Setting to change.
        remedy: String,
    },
    /// A reply ended at its limit of tokens before it came to an answer.
    #[error("the reply was cut at {limit} while reasoning; raise it")]
    Cut {
        /// Setting and value of the limit.
        limit: String,
    },
    /// A request failed after all retries.
    #[error(
        "no reply after {attempts} requests: {reason}; the same command continues the run when the server \
         is well, or raise retries and timeout_s"
    )]
    GaveUp {
        /// Number of times the request was sent.
        attempts: usize,
        /// Reason of the last failure.
        reason: String,
    },
    /// The server's `Retry-After` exceeds `max_wait_s`.
    #[error(
        "the server asks to wait {asked} s, more than max_wait_s ({limit}); continue the run later, or \
         raise max_wait_s"
    )]
    LongWait {
        /// Requested wait in seconds.
        asked: f64,
        /// Maximum wait in seconds.
        limit: f64,
    },
    /// A budget is exhausted.
    #[error(
        "the budget of {limit} {what} is spent ({spent}); raise budget.{what} to go on, the same command \
         continues the run"
    )]
    Budget {
        /// Resource: `requests`, `tokens` or `money`.
        what: &'static str,
        /// Amount spent.
        spent: f64,
        /// Maximum amount.
        limit: f64,
    },
    /// The server reports no token usage, which a budget of tokens or money needs.
    #[error(
        "the server's replies have no usage, so budget.tokens and budget.money cannot be kept; use budget.requests"
    )]
    NoUsage,
    /// A frame cannot be encoded as PNG.
    #[error("frame {index} cannot be written as PNG: {reason}")]
    Picture {
        /// Index of the frame.
        index: usize,
        /// Reason.
        reason: String,
    },
    /// The judge's rate limiter is closed.
    #[error("the judge is closed")]
    Closed,
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
