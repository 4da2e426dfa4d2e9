//! Errors of `isr-judges`.

use std::path::PathBuf;

use crate::template::TemplateError;

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
    /// The key is not there.
    #[error("environment variable {variable} is not set; set it to the key, or leave out api_key_env")]
    NoKey {
        /// The variable.
        variable: String,
    },
    /// The file of certificate authorities cannot be used.
    #[error("ca_file {path}: {reason}; it must hold certificates as PEM")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client cannot be built or used.
    #[error("cannot talk HTTP: {0}")]
    Client(String),
    /// The server does not take a request.
    #[error("the server said {status}: {text}; see base_url, model, the key and the length of the prompt")]
    Refused {
        /// Status code and its name.
        status: String,
        /// The beginning of what it said, without the key.
        text: String,
    },
    /// A request failed as often as it may.
    #[error(
        "no reply after {attempts} requests: {reason}; the same command continues the run when the server \
         is well, or raise retries and timeout_s"
    )]
    GaveUp {
        /// How often it was sent.
        attempts: usize,
        /// What went wrong the last time.
        reason: String,
    },
    /// The server wants longer quiet than the config allows.
    #[error(
        "the server asks to wait {asked} s, more than max_wait_s ({limit}); continue the run later, or \
         raise max_wait_s"
    )]
    LongWait {
        /// Seconds that it asks for.
        asked: f64,
        /// Seconds that are allowed.
        limit: f64,
    },
    /// A budget is spent.
    #[error(
        "the budget of {limit} {what} is spent ({spent}); raise budget.{what} to go on, the same command \
         continues the run"
    )]
    Budget {
        /// `requests`, `tokens` or `money`.
        what: &'static str,
        /// What has been spent.
        spent: f64,
        /// What was allowed.
        limit: f64,
    },
    /// The server does not say what a reply cost.
    #[error(
        "the server's replies have no usage, so budget.tokens and budget.money cannot be kept; use budget.requests"
    )]
    NoUsage,
    /// A frame cannot be sent.
    #[error("frame {index} cannot be written as PNG: {reason}")]
    Picture {
        /// Its index.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// The judge is being torn down.
    #[error("the judge is closed")]
    Closed,
    /// The policy said nothing about a video.
    #[error("{video}: the policy wrote an empty description")]
    EmptyDescription {
        /// The video's key.
        video: String,
    },
    /// The policy wants to say something other than one of the two choices.
    #[error(
        "no verdict: `{first}` and `{second}` together have a probability of {mass:.2e}, less than \
         min_choice_mass ({limit}); the prompt must make the model answer with one of them"
    )]
    NoVerdict {
        /// The first choice.
        first: String,
        /// The second choice.
        second: String,
        /// Their probability together.
        mass: f64,
        /// The configured minimum.
        limit: f64,
    },
    /// The policy broke its contract.
    #[error("the policy was to score two choices, and returned log-probs {got:?}; each needs a number")]
    Scores {
        /// Log-probs that came back, summed over tokens; 0 for a choice of no tokens.
        got: Vec<f64>,
    },
}
