//! What a suite finds.

use std::fmt;

/// A rule that a component breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The rule, in a word or two: `probability`, `deterministic`, `mirrored`, ...
    pub rule: &'static str,
    /// What was done, what came of it, and what should have.
    pub found: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.found)
    }
}

/// Collects the first failure of each rule.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    failures: Vec<Failure>,
    hung: bool,
}

impl Findings {
    pub(crate) fn note(&mut self, rule: &'static str, found: impl Into<String>) {
        if !self.failures.iter().any(|failure| failure.rule == rule) {
            self.failures.push(Failure { rule, found: found.into() });
        }
    }

    /// Notes a failure unless the rule holds.
    pub(crate) fn require(&mut self, holds: bool, rule: &'static str, found: impl FnOnce() -> String) {
        if !holds {
            self.note(rule, found());
        }
    }

    /// Notes that a call did not return: the next would not either.
    pub(crate) fn hang(&mut self) {
        self.hung = true;
    }

    /// Whether there is no point in going on.
    pub(crate) fn hung(&self) -> bool {
        self.hung
    }

    pub(crate) fn done(self) -> Vec<Failure> {
        self.failures
    }
}
