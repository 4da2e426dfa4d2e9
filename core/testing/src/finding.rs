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
    refusal: Option<String>,
    hung: bool,
}

impl Findings {
    pub(crate) fn note(&mut self, rule: &'static str, found: impl Into<String>) {
        if !self.breaks(rule) {
            self.failures.push(Failure { rule, found: found.into() });
        }
    }

    /// Whether a rule was broken.
    pub(crate) fn breaks(&self, rule: &str) -> bool {
        self.failures.iter().any(|failure| failure.rule == rule)
    }

    /// Records a failure unless the rule holds.
    pub(crate) fn require(&mut self, holds: bool, rule: &'static str, found: impl FnOnce() -> String) {
        if !holds {
            self.note(rule, found());
        }
    }

    /// Keeps why a case was refused, where it is the first.
    pub(crate) fn refused(&mut self, reason: &str) {
        self.refusal.get_or_insert_with(|| reason.to_owned());
    }

    /// Why the first refused case was refused; without one, why the first call failed.
    pub(crate) fn first_refusal(&self) -> String {
        let failed = || self.failures.first().map(|failure| failure.found.clone());
        self.refusal.clone().or_else(failed).unwrap_or_else(|| "no reason is known".to_owned())
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
