//! The selection `top_k`: the pairs of largest margin.

use std::sync::Arc;

use isr_api::{BuildContext, Candidate, Cause, Component, Decision, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{by_margin, decided, sides};
use crate::bounds;

/// Keeps the pairs of largest margin: a share of those with a preference, or a number. Drops the others as
/// `no preference` or `not among the surest`. Ties are broken by the smaller sample id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopKConfig {
    /// Share to keep of the pairs with a preference, in (0, 1], rounded to whole pairs, at least one. Default
    /// 0.5.
    pub share: f64,
    /// Maximum number of pairs to keep, at least 1; replaces `share`. Default none.
    pub count: Option<usize>,
}

impl Default for TopKConfig {
    fn default() -> Self {
        Self { share: 0.5, count: None }
    }
}

impl Component for TopKConfig {
    type Built = Arc<dyn Selection>;

    fn validate(&self) -> Result<(), String> {
        bounds::share("share", self.share)?;
        self.count.map_or(Ok(()), |count| bounds::at_least_one("count", count))
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(TopK { config: self.clone() }))
    }
}

isr_config::register!(Selection "top_k" => TopKConfig, example = "share = 0.5\n");

struct TopK {
    config: TopKConfig,
}

impl TopK {
    /// Number of pairs to keep of those with a preference.
    fn kept(&self, preferences: usize) -> usize {
        match self.config.count {
            Some(count) => count,
            None => ((preferences as f64 * self.config.share).round() as usize).max(1),
        }
    }
}

impl Selection for TopK {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        let mut decisions: Vec<_> = candidates.iter().map(decided).collect();
        let has_preference = |&index: &usize| sides(&candidates[index]).is_some();
        let mut ranked: Vec<usize> = (0..candidates.len()).filter(has_preference).collect();
        ranked.sort_by(|&left, &right| by_margin(&candidates[left], &candidates[right]));
        for &index in ranked.iter().skip(self.kept(ranked.len())) {
            decisions[index] = Decision::Drop("not among the surest".to_owned());
        }
        decisions
    }
}

#[cfg(test)]
mod tests {
    use crate::selection::tests::{decisions, selection};

    const FIVE: [(&str, &str, &str, f64); 5] = [
        ("e", "x", "y", 0.6),
        ("d", "x", "y", 0.1),
        ("c", "x", "y", 0.5),
        ("b", "x", "y", 0.6),
        ("a", "x", "y", 0.9),
    ];
    const UNSURE: &str = "not among the surest";

    #[test]
    fn the_surest_are_kept_and_ties_go_by_sample() {
        let kept = decisions("type = 'top_k'\ncount = 3", &FIVE);
        assert_eq!(kept, [UNSURE, "2", "no preference", "1", "1"]);
    }

    #[test]
    fn a_share_is_of_the_pairs_with_a_preference_and_never_nothing() {
        assert_eq!(decisions("type = 'top_k'", &FIVE), [UNSURE, "2", "no preference", UNSURE, "1"]);
        let least = decisions("type = 'top_k'\nshare = 0.01", &FIVE);
        assert_eq!(least.iter().filter(|word| word.len() == 1).count(), 1);
        assert_eq!(decisions("type = 'top_k'\nshare = 1.0", &FIVE), ["1", "2", "no preference", "1", "1"]);
        assert!(decisions("type = 'top_k'", &[]).is_empty());
    }

    #[test]
    fn bounds_are_named() {
        let said = |section| selection(section).err();
        assert_eq!(
            said("type = 'top_k'\nshare = 0.0").as_deref(),
            Some("share is 0; it must be in (0, 1]")
        );
        assert_eq!(said("type = 'top_k'\ncount = 0").as_deref(), Some("count is 0; it must be at least 1"));
    }
}
