//! Inter-rater agreement: Cohen's kappa.

use std::f64::consts::TAU;

use isr_api::{Choice, ChoiceCounts, Streams};
use rand::Rng;
use serde::Serialize;

use crate::interval::percentiles;

/// Draws of an interval.
const DRAWS: usize = 4000;

/// Fewest pairs with an interval: of fewer, its coverage falls below 90%.
const LEAST: usize = 20;

/// Agreement of two raters on the pairs that both decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Number of pairs that both decided.
    pub n: usize,
    /// Number of pairs on which either has a tie; excluded from the other figures.
    pub ties: usize,
    /// Observed agreement on the decided pairs; null without any.
    pub agree: Option<f64>,
    /// Cohen's kappa (1960): `(agree - chance) / (1 - chance)`, where `chance` is the expected agreement of independent raters
    /// with the same marginals. Null where `chance` is 1.
    pub kappa: Option<f64>,
    /// 95% interval of kappa, from 4000 seeded draws; null where kappa is, and for fewer than 20 decided pairs. Pairs count as
    /// independent, also where several share a video.
    pub interval: Option<[f64; 2]>,
}

/// Contingency table `[one][other]`, as in [`ChoiceCounts::decided`].
type Counts = [[usize; 2]; 2];

impl Agreement {
    /// Compares choices, pair by pair. `stream` names the draws of the interval.
    pub(crate) fn of(pairs: impl Iterator<Item = (Choice, Choice)>, stream: &str) -> Self {
        let counts: ChoiceCounts = pairs.collect();
        let table = &counts.decided;
        Self {
            n: counts.n(),
            ties: counts.ties,
            agree: counts.agreement(),
            kappa: kappa(table),
            interval: interval(table, stream, DRAWS),
        }
    }
}

fn total(counts: &Counts) -> usize {
    counts.as_flattened().iter().sum()
}

/// Cohen's kappa (1960) of two categories.
fn kappa(counts: &Counts) -> Option<f64> {
    kappa_of(counts.map(|row| row.map(|count| count as f64)))
}

/// [`kappa`] of weights.
fn kappa_of(weights: [[f64; 2]; 2]) -> Option<f64> {
    let n: f64 = weights.as_flattened().iter().sum();
    let [[ff, fs], [sf, ss]] = weights.map(|row| row.map(|weight| weight / n));
    let (observed, one, other) = (ff + ss, ff + fs, ff + sf);
    // The shares of the second answer are computed from their own counts, so that chance is exactly 1
    // where both always say the same.
    let chance = one * other + (sf + ss) * (fs + ss);
    (n > 0.0 && chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
}

/// Equal-tailed Bayesian interval: percentiles of kappa under the Dirichlet posterior of the four shares, with Jeffreys'
/// prior of one half each. A percentile bootstrap of the pairs covers kappas near 1 in less than half of all samples of 20.
fn interval(counts: &Counts, stream: &str, draws: usize) -> Option<[f64; 2]> {
    kappa(counts)?;
    if total(counts) < LEAST {
        return None;
    }
    let mut rng = Streams::new(0).rng(0, "audit/kappa", stream);
    let mut draw = || kappa_of(counts.map(|row| row.map(|count| gamma(count as f64 + 0.5, &mut rng))));
    percentiles((0..draws).filter_map(|_| draw()).collect())
}

/// A draw from the gamma distribution of scale 1: Marsaglia and Tsang (2000).
fn gamma(shape: f64, rng: &mut impl Rng) -> f64 {
    if shape < 1.0 {
        return gamma(shape + 1.0, rng) * open(rng).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    loop {
        // Box and Muller (1958).
        let normal = (-2.0 * open(rng).ln()).sqrt() * (TAU * rng.random::<f64>()).cos();
        let v = (1.0 + normal / (9.0 * d).sqrt()).powi(3);
        if v > 0.0 && open(rng).ln() < 0.5 * normal * normal + d * (1.0 - v + v.ln()) {
            return d * v;
        }
    }
}

/// A uniform draw from (0, 1].
fn open(rng: &mut impl Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: Counts) -> Agreement {
        let choice = [Choice::First, Choice::Second];
        let pairs = (0..2).flat_map(|one| (0..2).map(move |other| (one, other)));
        let pairs = pairs
            .flat_map(|(one, other)| std::iter::repeat_n((choice[one], choice[other]), counts[one][other]));
        Agreement::of(pairs, "test")
    }

    /// `sklearn.metrics.cohen_kappa_score` of scikit-learn 1.9.1; percentiles of 2,000,000 draws of
    /// `numpy.random.Generator.dirichlet(counts + 0.5)`, NumPy 2.4.6.
    #[test]
    fn kappa_and_its_interval_are_those_of_scikit_learn_and_numpy() {
        for (counts, kappa, [low, high]) in [
            ([[20, 5], [10, 15]], 0.4, [0.130_334_82, 0.609_816_47]),
            ([[45, 15], [25, 15]], 0.130_434_782_608_695_68, [-0.058_795, 0.315_796_5]),
            ([[14, 0], [0, 10]], 1.0, [0.711_971_2, 0.997_828_66]),
            ([[3, 17], [19, 1]], -0.8, [-0.898_307_26, -0.510_404_81]),
        ] {
            let got = of(counts);
            assert!((got.kappa.unwrap() - kappa).abs() < 1e-12, "{counts:?}: {got:?}");
            let interval = got.interval.unwrap();
            assert!((interval[0] - low).abs() < 0.02, "{counts:?}: {got:?}");
            assert!((interval[1] - high).abs() < 0.02, "{counts:?}: {got:?}");
        }
        let few = of([[9, 1], [1, 0]]);
        assert!((few.kappa.unwrap() + 0.1).abs() < 1e-12 && few.interval.is_none(), "{few:?}");
    }

    /// Judges of several qualities and one-sidedness, 300 simulated samples each.
    #[test]
    fn what_is_called_95_percent_covers_95_percent() {
        let mut rng = Streams::new(1).rng(0, "coverage", "kappa");
        let mut all = Vec::new();
        for shares in [[0.35, 0.15, 0.15, 0.35], [0.45, 0.05, 0.05, 0.45], [0.7, 0.1, 0.1, 0.1]] {
            let [[ff, fs], [sf, ss]] = [[shares[0], shares[1]], [shares[2], shares[3]]];
            let truth = kappa_of([[ff, fs], [sf, ss]]).unwrap();
            for n in [20, 100] {
                let (mut covered, mut of) = (0_u32, 0_u32);
                for sample in 0..300 {
                    let mut counts = Counts::default();
                    for _ in 0..n {
                        let place = rng.random::<f64>();
                        let cell = [ff, ff + fs, ff + fs + sf].iter().filter(|end| place >= **end).count();
                        counts[cell / 2][cell % 2] += 1;
                    }
                    let Some([low, high]) = interval(&counts, &sample.to_string(), 500) else { continue };
                    of += 1;
                    covered += u32::from(low <= truth && truth <= high);
                }
                let share = f64::from(covered) / f64::from(of);
                assert!(share > 0.9, "{shares:?}, {n} pairs: {share}");
                all.push(share);
            }
        }
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((mean - 0.95).abs() < 0.02, "{all:?}");
    }

    #[test]
    fn the_same_pairs_give_the_same_interval() {
        assert_eq!(of([[20, 5], [10, 15]]), of([[20, 5], [10, 15]]));
    }

    #[test]
    fn ties_are_counted_and_in_no_figure() {
        let pairs = [
            (Choice::First, Choice::First),
            (Choice::Tie, Choice::First),
            (Choice::Second, Choice::Tie),
            (Choice::First, Choice::Second),
        ];
        let got = Agreement::of(pairs.into_iter(), "test");
        assert_eq!((got.n, got.ties, got.agree), (2, 2, Some(0.5)));
        assert_eq!(got.kappa, Some(0.0));
    }

    #[test]
    fn where_there_is_nothing_or_nothing_but_chance_there_is_no_kappa() {
        let none = of([[0, 0], [0, 0]]);
        assert_eq!((none.n, none.agree, none.kappa, none.interval), (0, None, None, None));
        let one_sided = of([[30, 0], [0, 0]]);
        assert_eq!((one_sided.agree, one_sided.kappa, one_sided.interval), (Some(1.0), None, None));
    }
}
