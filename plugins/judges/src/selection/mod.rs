//! Selections: which judged pairs become training data.

mod balanced_lengths;
mod chain;
mod consistent;
mod deduplicate;
mod length_debiased;
mod top_k;

pub use balanced_lengths::BalancedLengthsConfig;
pub use chain::ChainConfig;
pub use consistent::{ConsistentSelection, ConsistentSelectionConfig};
pub use deduplicate::DeduplicateConfig;
pub use length_debiased::LengthDebiasedConfig as LengthDebiasedSelectionConfig;
pub use top_k::TopKConfig;

use std::cmp::Ordering;

use isr_api::{Candidate, Choice, Decision, Verdict};

/// Decision by the preference probability alone.
fn by_preference(verdict: &Verdict) -> Decision {
    match verdict.choice() {
        Choice::First => Decision::ChooseFirst,
        Choice::Second => Decision::ChooseSecond,
        Choice::Tie => Decision::Drop("no preference".to_owned()),
    }
}

/// [`by_preference`] of a candidate.
fn decided(candidate: &Candidate) -> Decision {
    by_preference(&candidate.verdict)
}

/// Chosen and rejected text; `None` without a preference.
fn sides(candidate: &Candidate) -> Option<[&str; 2]> {
    let (first, second) = (candidate.first.text.as_str(), candidate.second.text.as_str());
    match decided(candidate) {
        Decision::ChooseFirst => Some([first, second]),
        Decision::ChooseSecond => Some([second, first]),
        Decision::Drop(_) => None,
    }
}

/// Descending margin; ties by sample id, so that the result does not depend on the order of candidates.
fn by_margin(left: &Candidate, right: &Candidate) -> Ordering {
    let margins = right.verdict.margin().total_cmp(&left.verdict.margin());
    margins.then_with(|| left.sample.cmp(&right.sample))
}

/// Candidates and decisions for tests.
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use std::sync::Arc;

    use isr_api::{BuildContext, Candidate, Decision, Selection, Verdict};
    use isr_config::registry::SelectionConfig;
    use isr_testing::fixtures::response;

    /// Builds the selection of a section, or returns the error message.
    pub(super) fn selection(section: &str) -> Result<Arc<dyn Selection>, String> {
        let config: Box<dyn SelectionConfig> =
            toml::from_str(section).map_err(|error| error.to_string())?;
        config.validate()?;
        config.build(&BuildContext::default()).map_err(|error| error.to_string())
    }

    /// A candidate: sample, answers, probability.
    pub(super) fn candidate((sample, first, second, p_first): (&str, &str, &str, f64)) -> Candidate {
        let verdict = Verdict { p_first, votes: Vec::new(), consistent: true };
        Candidate { sample: sample.into(), first: response(first), second: response(second), verdict }
    }

    /// The decision on each candidate: `1` or `2` for the chosen answer, else the reason of the drop.
    pub(super) fn decisions(section: &str, candidates: &[(&str, &str, &str, f64)]) -> Vec<String> {
        let candidates: Vec<_> = candidates.iter().copied().map(candidate).collect();
        let word = |decision| match decision {
            Decision::ChooseFirst => "1".to_owned(),
            Decision::ChooseSecond => "2".to_owned(),
            Decision::Drop(reason) => reason,
        };
        selection(section).unwrap().select(&candidates).into_iter().map(word).collect()
    }
}
