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
        let late = self.stated_after_results.then_some(late);
        self.reason.iter().cloned().chain(late).chain(missing(&self.missing)).collect()
    }
}

/// Names the first runs without a value; of a sweep that was stopped there can be hundreds.
fn missing(runs: &[String]) -> impl Iterator<Item = String> {
    const NAMED: usize = 3;
    let more = (runs.len() > NAMED).then(|| format!("and {} more, in sweep.json", runs.len() - NAMED));
    runs.iter().take(NAMED).map(|run| format!("missing: {run}")).chain(more)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_runs_without_a_value_the_first_are_named() {
        let runs =
            |count: usize| (1..=count).map(|seed| format!("isr, seed {seed}: failed")).collect::<Vec<_>>();
        let said = |count| missing(&runs(count)).collect::<Vec<_>>();
        assert!(said(0).is_empty());
        assert_eq!(said(3)[2], "missing: isr, seed 3: failed");
        assert_eq!(said(3).len(), 3);
        assert_eq!(said(5).len(), 4);
        assert_eq!(said(5)[3], "and 2 more, in sweep.json");
    }
}
