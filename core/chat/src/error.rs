//! Errors of `isr-chat`.

use std::path::PathBuf;

/// Errors of a client's settings, and of its requests.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// Invalid setting; the message names it.
    #[error("{0}")]
    Setting(String),
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
    #[error("the server said {status}: {text}; it does not take this {role}'s `{parameter}`: {remedy}")]
    Parameter {
        /// Status code and reason phrase.
        status: String,
        /// Beginning of the response body, without the key.
        text: String,
        /// Who asks: `judge` or `scorer`.
        role: &'static str,
        /// Key of the request body.
        parameter: String,
        /// Setting to change.
        remedy: String,
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
    /// The rate limiter is closed.
    #[error("the client is closed")]
    Closed,
}
