//! Decisions about claims.

use isr_analysis::mean_effect::{Cells, MeanEffect, holm};
use serde::{Deserialize, Serialize};

use super::{Comparison, Direction, Stated};

/// Family-wise error rate of all claims of a sweep.
const LEVEL: f64 = 0.05;

/// What came of a claim, as in `sweep.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimResult {
    /// The claim.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Whether it holds.
    pub verdict: Verdict,
    /// Why it is undecided or does not hold; absent where it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the claim, or the sweep's seeds or bases, were written or changed after a run had results; absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stated_after_results: bool,
    /// Mean paired difference, `arm` minus `against` of the same base and seed ([`MeanEffect::of`]); null without a pair.
    pub difference: Option<f64>,
    /// 95% interval of the difference; null where there is none.
    pub interval: Option<[f64; 2]>,
    /// Interval of the difference that holds for all claims of the sweep together in 95% of sweeps (Bonferroni).
    pub simultaneous_interval: Option<[f64; 2]>,
    /// Number of pairs.
    pub n: usize,
    /// Number of bases of the pairs; absent without bases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bases: Option<usize>,
    /// Degrees of freedom of Student's t.
    pub df: Option<usize>,
    /// Two-sided p-value of no difference; null for a claim with missing runs, and where all differences are the same.
    pub p: Option<f64>,
    /// P-value adjusted for the claims of the sweep by Holm's procedure.
    pub adjusted_p: Option<f64>,
    /// Runs without a value, each with its reason; absent where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Decision about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The adjusted p-value is below 0.05, and the difference has the stated direction.
    Holds,
    /// The adjusted p-value is below 0.05 and the difference has the other direction; or there is a margin, and the simultaneous
    /// interval lies below it (of a claim that values differ, within it on both sides).
    DoesNotHold,
    /// Neither is shown.
    Undecided,
}

impl Verdict {
    /// The verdict in words: `holds`, `does not hold` or `undecided`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::Undecided => "undecided",
        }
    }
}

/// Values of the two sides of a claim, and the runs that should have one and have not.
pub(crate) struct Sides {
    pub(crate) arm: Cells,
    pub(crate) against: Cells,
    pub(crate) missing: Vec<String>,
}

impl Sides {
    /// Paired differences.
    fn differences(&self) -> Cells {
        let pair = |(at, value): (&(usize, u64), &f64)| Some((*at, value - self.against.get(at)?));
        self.arm.iter().filter_map(pair).collect()
    }

    /// Whether differences with this standard error are the same but for rounding.
    fn is_constant(&self, standard_error: f64) -> bool {
        let values = self.arm.values().chain(self.against.values());
        standard_error <= 1e-12 * values.fold(0.0, |largest: f64, value| largest.max(value.abs()))
    }
}

/// Decides the claims of a sweep. `sides` has the values of each; `bases` is the number of the sweep's bases, 0 without.
pub(crate) fn decide(
    claims: &[Comparison],
    sides: &[Sides],
    stated: &Stated,
    bases: usize,
) -> Vec<ClaimResult> {
    let family = claims.len() + stated.withdrawn.len();
    let mut results: Vec<ClaimResult> = Vec::new();
    for (index, (comparison, sides)) in claims.iter().zip(sides).enumerate() {
        let differences = sides.differences();
        let of_bases =
            differences.keys().map(|(base, _)| base).collect::<std::collections::BTreeSet<_>>().len();
        // Seeds of one base say nothing of the others.
        let effect = MeanEffect::of(&differences).filter(|_| bases < 2 || of_bases > 1);
        let tested =
            effect.filter(|effect| sides.missing.is_empty() && !sides.is_constant(effect.standard_error));
        let mean = differences.values().sum::<f64>() / differences.len() as f64;
        let level = 1.0 - LEVEL / family as f64;
        results.push(ClaimResult {
            comparison: comparison.clone(),
            verdict: Verdict::Undecided,
            reason: None,
            stated_after_results: stated.after_results.get(index).copied().unwrap_or(true),
            difference: effect.map(|effect| effect.mean).or((!differences.is_empty()).then_some(mean)),
            interval: effect.map(|effect| effect.interval(1.0 - LEVEL)),
            simultaneous_interval: effect.map(|effect| effect.interval(level)),
            n: differences.len(),
            bases: (bases > 0).then_some(of_bases),
            df: effect.map(|effect| effect.df),
            p: tested.map(|effect| effect.p_value()),
            adjusted_p: None,
            missing: sides.missing.clone(),
        });
    }
    let withdrawn = stated.withdrawn.iter().map(|_| None);
    let adjusted = holm(&results.iter().map(|result| result.p).chain(withdrawn).collect::<Vec<_>>());
    for (result, adjusted) in results.iter_mut().zip(adjusted) {
        result.adjusted_p = adjusted;
        (result.verdict, result.reason) = result.decided();
    }
    results
}

impl ClaimResult {
    fn decided(&self) -> (Verdict, Option<String>) {
        let undecided = |reason: String| (Verdict::Undecided, Some(reason));
        let refuted = |reason: String| (Verdict::DoesNotHold, Some(reason));
        if !self.missing.is_empty() {
            let count = self.missing.len();
            return undecided(format!("{count} value{} missing", if count == 1 { " is" } else { "s are" }));
        }
        let (Some(mean), Some(adjusted), Some([low, high])) =
            (self.difference, self.adjusted_p, self.simultaneous_interval)
        else {
            return undecided("the differences are all the same, so that there is no test".to_owned());
        };
        let Comparison { direction, margin, .. } = self.comparison;
        let is_small = |margin: &f64| match direction {
            Direction::Higher => high < *margin,
            Direction::Lower => low > -margin,
            Direction::Differs => low > -margin && high < *margin,
        };
        if let Some(margin) = margin.filter(is_small) {
            return refuted(format!("a difference of {margin} is excluded"));
        }
        if adjusted >= LEVEL {
            return undecided("the adjusted p-value is not below 0.05".to_owned());
        }
        match direction {
            Direction::Higher if mean < 0.0 => refuted("the value is lower".to_owned()),
            Direction::Lower if mean > 0.0 => refuted("the value is higher".to_owned()),
            _ => (Verdict::Holds, None),
        }
    }
}
