//! Errors of `isr-method`.

/// What goes wrong while describing and judging.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
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
