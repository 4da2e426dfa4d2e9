//! Errors of `isr-method`.

/// What goes wrong while describing and judging.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// A prompt template cannot be used; the message starts with its key.
    #[error("{key}, line {line}: {reason}")]
    Template {
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
