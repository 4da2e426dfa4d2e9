//! Claims and their verdicts in words, for the page, the terminal and the tables of a paper.

use super::{ClaimResult, Comparison, Direction};
use crate::results::Results;

impl Comparison {
    /// What is claimed of the difference: `isr − random, greedy.accuracy after iteration 9: above 0`.
    pub fn stated(&self) -> String {
        let claimed = match self.direction {
            Direction::Higher => "above 0",
            Direction::Lower => "below 0",
            Direction::Differs => "not 0",
        };
        let margin = self.margin.map_or_else(String::new, |margin| format!(", margin {margin}"));
        format!("{}: {claimed}{margin}", self.difference())
    }
}

impl ClaimResult {
    /// What a reader of the verdict has to know: why it is none, that it was stated late, and runs without a value.
    pub fn remarks(&self) -> Vec<String> {
        let late = "stated or changed after a run had results".to_owned();
        let missing = self.missing.iter().map(|run| format!("missing: {run}"));
        let late = self.stated_after_results.then_some(late);
        self.reason.iter().cloned().chain(late).chain(missing).collect()
    }
}

/// A p-value with three decimals.
pub(crate) fn shown_p(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// How claims were decided; empty without claims.
pub fn claims_note(results: &Results) -> String {
    let count = results.claims.len() + results.withdrawn_claims.len();
    if count == 0 {
        return String::new();
    }
    let same = if results.bases.len() > 1 { "base and seed" } else { "seed" };
    let mut note = format!(
        "Differences paired by {same}; Student's t over {}; p-values adjusted by Holm's procedure, and simultaneous intervals by \
         Bonferroni's, for {count} claim{}.",
        results.over(),
        if count == 1 { "" } else { "s" }
    );
    if !results.withdrawn_claims.is_empty() {
        let names = results.withdrawn_claims.join("; ");
        note.push_str(&format!(" Of these, removed from the file after a run had results: {names}."));
    }
    note
}
