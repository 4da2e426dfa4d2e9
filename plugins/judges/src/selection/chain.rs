//! The selection `chain`: a sequence of selections.

use std::sync::Arc;

use isr_api::{BuildContext, Candidate, Cause, Component, Decision, Selection};
use isr_config::registry::SelectionConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;

/// Sequence of selections: each sees the pairs that those before it kept. A dropped pair has the reason of the
/// selection that dropped it; the last selection decides which answer is chosen.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// Selections in order, at least one: tables of `type` and settings. Required.
    pub steps: Vec<Box<dyn SelectionConfig>>,
}

impl Component for ChainConfig {
    type Built = Arc<dyn Selection>;

    fn validate(&self) -> Result<(), String> {
        bounds::at_least_one("the number of steps", self.steps.len())?;
        let mut each = self.steps.iter().enumerate();
        each.try_for_each(|(index, step)| bounds::selection(&format!("steps[{index}]"), step.as_ref()))
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let steps = self.steps.iter().map(|step| step.build(cx)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Chain { steps }))
    }
}

isr_config::register!(Selection "chain" => ChainConfig, example = "\
steps = [{ type = \"deduplicate\" }, { type = \"balanced_lengths\" }, { type = \"top_k\", share = 0.8 }]
");

struct Chain {
    steps: Vec<Arc<dyn Selection>>,
}

impl Selection for Chain {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        let unseen = Decision::Drop("no selection".to_owned());
        let mut decisions = vec![unseen; candidates.len()];
        let mut left: Vec<usize> = (0..candidates.len()).collect();
        for step in &self.steps {
            let handed: Vec<_> = left.iter().map(|&index| candidates[index].clone()).collect();
            let said = step.select(&handed);
            if said.len() != handed.len() {
                // Decisions cannot be matched to candidates; an empty result fails the loop's own check.
                return Vec::new();
            }
            left.iter().zip(said).for_each(|(&index, decision)| decisions[index] = decision);
            left.retain(|&index| !matches!(decisions[index], Decision::Drop(_)));
        }
        decisions
    }
}

#[cfg(test)]
mod tests {
    use crate::selection::tests::{decisions, selection};

    const CANDIDATES: [(&str, &str, &str, f64); 4] =
        [("a", "x", "y", 0.9), ("b", "x", "y", 0.8), ("c", "x", "z", 0.3), ("d", "w", "z", 0.5)];

    #[test]
    fn each_step_sees_what_was_kept() {
        let steps = "type = 'chain'\nsteps = [{ type = 'deduplicate' }, { type = 'top_k', count = 2 }]";
        let said = decisions(steps, &CANDIDATES);
        assert_eq!(said, ["1", "duplicate pair", "2", "no preference"]);
        let turned = "type = 'chain'\nsteps = [{ type = 'top_k', count = 2 }, { type = 'deduplicate' }]";
        let said = decisions(turned, &CANDIDATES);
        assert_eq!(said, ["1", "duplicate pair", "not among the surest", "no preference"]);
    }

    #[test]
    fn a_bad_step_is_named_by_its_place() {
        let section = "type = 'chain'\nsteps = [{ type = 'deduplicate' }, { type = 'top_k', share = 2.0 }]";
        let said = selection(section).err();
        assert_eq!(said.as_deref(), Some("steps[1] (top_k): share is 2; it must be in (0, 1]"));
        let none = selection("type = 'chain'\nsteps = []").err();
        assert_eq!(none.as_deref(), Some("the number of steps is 0; it must be at least 1"));
        let unknown = selection("type = 'chain'\nsteps = [{ type = 'top_k', shard = 1.0 }]").err();
        assert!(unknown.is_some_and(|text| text.contains("shard")));
    }
}
