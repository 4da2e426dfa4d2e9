//! Findings of a suite.

use std::fmt;

/// A rule of a contract that a component breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Name of the rule: `probability`, `deterministic`, `mirrored`, ...
    pub rule: &'static str,
    /// Input, actual result and expected result.
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

    /// Records a failure unless the rule holds.
    pub(crate) fn require(&mut self, holds: bool, rule: &'static str, found: impl FnOnce() -> String) {
        if !holds {
            self.note(rule, found());
        }
    }

    /// Records that a call did not return, so that the suite ends early.
    pub(crate) fn hang(&mut self) {
        self.hung = true;
    }

    /// Whether a call did not return.
    pub(crate) fn hung(&self) -> bool {
        self.hung
    }

    pub(crate) fn done(self) -> Vec<Failure> {
        self.failures
    }
}
