//! The selection `balanced_lengths`: a training set without length bias.
//!
//! If the chosen answer is longer in most pairs, the policy learns to write more, and answers grow over
//! iterations. With equally many pairs of either kind, length does not predict the preference.

use std::sync::Arc;

use isr_api::{BuildContext, Candidate, Cause, Component, Decision, Selection};
use isr_run::words::excess_words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{by_margin, decided, sides};

/// Balances pairs whose chosen answer is longer (in words) against pairs whose rejected answer is: keeps all
/// of the rarer kind and equally many of the other, by largest margin. Keeps pairs of equal length. Drops the
/// others as `no preference` or `unbalanced length`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BalancedLengthsConfig {}

impl Component for BalancedLengthsConfig {
    type Built = Arc<dyn Selection>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(BalancedLengths))
    }
}

isr_config::register!(Selection "balanced_lengths" => BalancedLengthsConfig, example = "");

struct BalancedLengths;

impl Selection for BalancedLengths {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        let mut decisions: Vec<_> = candidates.iter().map(decided).collect();
        let (mut longer, mut shorter) = (Vec::new(), Vec::new());
        for (index, candidate) in candidates.iter().enumerate() {
            let excess = sides(candidate).map_or(0.0, |[chosen, rejected]| excess_words(chosen, rejected));
            if excess > 0.0 {
                longer.push(index);
            } else if excess < 0.0 {
                shorter.push(index);
            }
        }
        let kept = longer.len().min(shorter.len());
        for mut group in [longer, shorter] {
            group.sort_by(|&left, &right| by_margin(&candidates[left], &candidates[right]));
            for &index in &group[kept..] {
                decisions[index] = Decision::Drop("unbalanced length".to_owned());
            }
        }
        decisions
    }
}

#[cfg(test)]
mod tests {
    use crate::selection::tests::decisions;

    #[test]
    fn both_kinds_are_equal_in_number_and_the_surest_stay() {
        let candidates = [
            ("a", "x y", "x", 0.7),
            ("b", "x", "x y", 0.2),
            ("c", "x y z", "x", 0.6),
            ("d", "x y", "x", 0.4),
            ("e", "x", "y", 0.9),
            ("f", "x y", "x", 0.5),
        ];
        let said = decisions("type = 'balanced_lengths'", &candidates);
        // Chosen longer: a, b, c. Rejected longer: d.
        let unbalanced = "unbalanced length";
        assert_eq!(said, [unbalanced, "2", unbalanced, "2", "1", "no preference"]);
    }

    #[test]
    fn one_kind_alone_is_dropped() {
        let said = decisions("type = 'balanced_lengths'", &[("a", "x y", "x", 0.7), ("b", "x", "y", 0.7)]);
        assert_eq!(said, ["unbalanced length", "1"]);
    }
}
