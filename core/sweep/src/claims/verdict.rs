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

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(direction: Direction, margin: Option<f64>) -> Comparison {
        Comparison {
            name: format!("{direction:?} {margin:?}"),
            arm: "a".to_owned(),
            iteration: 9,
            against: "b".to_owned(),
            against_iteration: 9,
            metric: "greedy.accuracy".to_owned(),
            direction,
            margin,
        }
    }

    /// Differences by base and seed, over values of 0.5.
    fn sides(rows: &[&[f64]]) -> Sides {
        let all = rows.iter().enumerate().flat_map(|(base, row)| {
            row.iter().zip(1..).map(move |(&difference, seed)| ((base, seed), difference))
        });
        let (mut arm, mut against) = (Cells::new(), Cells::new());
        for (at, difference) in all {
            arm.insert(at, 0.5 + difference);
            against.insert(at, 0.5);
        }
        Sides { arm, against, missing: Vec::new() }
    }

    fn decided(claims: &[Comparison], sides: &[Sides], bases: usize) -> Vec<ClaimResult> {
        let stated = Stated { after_results: vec![false; claims.len()], withdrawn: Vec::new() };
        decide(claims, sides, &stated, bases)
    }

    fn alone(direction: Direction, margin: Option<f64>, rows: &[&[f64]]) -> ClaimResult {
        decided(&[claim(direction, margin)], &[sides(rows)], rows.len()).remove(0)
    }

    const CLEAR: [&[f64]; 3] = [&[0.04, 0.05, 0.045], &[0.05, 0.045, 0.055], &[0.045, 0.04, 0.05]];
    const NOISE: [&[f64]; 3] = [&[0.03, -0.02, 0.01], &[-0.02, 0.01, 0.0], &[0.02, 0.0, -0.01]];

    #[test]
    fn a_claim_holds_in_its_direction_alone() {
        for (direction, rows, verdict) in [
            (Direction::Higher, &CLEAR, Verdict::Holds),
            (Direction::Lower, &CLEAR, Verdict::DoesNotHold),
            (Direction::Differs, &CLEAR, Verdict::Holds),
            (Direction::Higher, &NOISE, Verdict::Undecided),
            (Direction::Differs, &NOISE, Verdict::Undecided),
        ] {
            let result = alone(direction, None, rows);
            assert_eq!(result.verdict, verdict, "{result:?}");
            assert_eq!(result.reason.is_none(), verdict == Verdict::Holds, "{result:?}");
            assert_eq!((result.n, result.bases, result.df), (9, Some(3), Some(2)));
        }
    }

    #[test]
    fn a_margin_that_is_excluded_refutes_a_claim() {
        for (direction, rows, margin, verdict) in [
            (Direction::Higher, &NOISE, 0.1, Verdict::DoesNotHold),
            (Direction::Lower, &NOISE, 0.1, Verdict::DoesNotHold),
            (Direction::Differs, &NOISE, 0.1, Verdict::DoesNotHold),
            (Direction::Differs, &NOISE, 0.001, Verdict::Undecided),
            // There is a difference, and none of interest.
            (Direction::Higher, &CLEAR, 0.2, Verdict::DoesNotHold),
            (Direction::Higher, &CLEAR, 0.01, Verdict::Holds),
        ] {
            let result = alone(direction, Some(margin), rows);
            assert_eq!(result.verdict, verdict, "{result:?}");
        }
    }

    /// The mean differs from 0 by 4.6 standard errors: p is 0.0101 with four degrees of freedom, enough for one claim.
    #[test]
    fn claims_of_a_family_and_withdrawn_ones_are_corrected_for() {
        let rows: &[&[f64]] = &[&[0.01, 0.03, 0.04, 0.02, 0.045]];
        let first = alone(Direction::Higher, None, rows);
        assert_eq!((first.verdict, first.p), (Verdict::Holds, first.adjusted_p));
        assert_eq!(first.interval, first.simultaneous_interval);
        let claims = vec![claim(Direction::Higher, None); 6];
        let all: Vec<Sides> = claims.iter().map(|_| sides(rows)).collect();
        let results = decided(&claims, &all, 0);
        assert!(results.iter().all(|result| result.verdict == Verdict::Undecided), "{results:?}");
        assert_eq!(results[0].adjusted_p, first.p.map(|p| 6.0 * p));
        let width = |interval: Option<[f64; 2]>| interval.map(|[low, high]| high - low).unwrap();
        assert!(width(results[0].simultaneous_interval) > 1.5 * width(results[0].interval));

        let withdrawn = (0..5).map(|index| format!("claim {index}")).collect();
        let stated = Stated { after_results: vec![true], withdrawn };
        let result = decide(&claims[..1], &all[..1], &stated, 0).remove(0);
        assert_eq!((result.verdict, result.stated_after_results), (Verdict::Undecided, true));
        assert_eq!(result.adjusted_p, results[0].adjusted_p);
    }

    #[test]
    fn missing_runs_and_differences_without_spread_decide_nothing() {
        let mut holed = sides(&CLEAR);
        holed.against.remove(&(1, 2));
        holed.missing.push("b, base-2, seed 2: failed".to_owned());
        let result = decided(&[claim(Direction::Higher, None)], &[holed], 3).remove(0);
        assert_eq!((result.verdict, result.n, result.p), (Verdict::Undecided, 8, None));
        assert_eq!(result.reason.as_deref(), Some("1 value is missing"));
        assert!(result.difference.is_some() && result.interval.is_some(), "what is there is shown");

        // 0.1 + 0.2 and 0.3 differ by rounding.
        let result = alone(Direction::Higher, None, &[&[0.1 + 0.2, 0.3, 0.3]]);
        assert_eq!((result.verdict, result.p), (Verdict::Undecided, None));
        assert!(result.reason.unwrap().contains("all the same"));

        let of_one_base = &[CLEAR[0]];
        let result = decided(&[claim(Direction::Higher, None)], &[sides(of_one_base)], 3).remove(0);
        assert_eq!((result.verdict, result.interval), (Verdict::Undecided, None));
    }
}
