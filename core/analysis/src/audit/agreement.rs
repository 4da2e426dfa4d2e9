//! Inter-rater agreement: Cohen's kappa.

use isr_api::Streams;
use isr_api::records::Choice;
use rand::Rng;
use serde::Serialize;

use crate::audit::bootstrap::{RESAMPLES, percentiles};

/// Agreement of two raters on the pairs that both decided.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Number of pairs that both decided.
    pub n: usize,
    /// Number of pairs that either left undecided; excluded from the other figures.
    pub ties: usize,
    /// Observed agreement on the decided pairs; null without any.
    pub agree: Option<f64>,
    /// Cohen's kappa (1960): `(agree - chance) / (1 - chance)`, where `chance` is the expected agreement of independent raters
    /// with the same marginals. Null where `chance` is 1.
    pub kappa: Option<f64>,
    /// 95% percentile bootstrap interval of kappa: 2000 seeded resamples of pairs. Pairs are resampled independently, also where
    /// several share a video.
    pub interval: Option<[f64; 2]>,
}

/// Contingency table `[one][other]`; index 0 is the first response, 1 the second.
type Counts = [[usize; 2]; 2];

impl Agreement {
    /// Compares choices, pair by pair. `stream` names the draws of the interval.
    pub(crate) fn of(pairs: impl Iterator<Item = (Choice, Choice)>, stream: &str) -> Self {
        let (mut counts, mut ties) = (Counts::default(), 0);
        for pair in pairs {
            match pair {
                (Choice::Tie, _) | (_, Choice::Tie) => ties += 1,
                (one, other) => counts[index(one)][index(other)] += 1,
            }
        }
        let n = total(&counts);
        Self {
            n,
            ties,
            agree: (n > 0).then(|| (counts[0][0] + counts[1][1]) as f64 / n as f64),
            kappa: kappa(&counts),
            interval: interval(&counts, stream),
        }
    }
}

fn index(choice: Choice) -> usize {
    usize::from(choice != Choice::First)
}

fn total(counts: &Counts) -> usize {
    counts.as_flattened().iter().sum()
}

/// Cohen's kappa (1960) of two categories.
fn kappa(counts: &Counts) -> Option<f64> {
    let n = total(counts) as f64;
    let [[ff, fs], [sf, ss]] = counts.map(|row| row.map(|count| count as f64 / n));
    let (observed, one, other) = (ff + ss, ff + fs, ff + sf);
    // The shares of the second answer are computed from their own counts, so that chance is exactly 1
    // where both always say the same.
    let chance = one * other + (sf + ss) * (fs + ss);
    (n > 0.0 && chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
}

/// Percentile bootstrap: pairs are drawn with replacement. Resamples without a kappa are left out.
fn interval(counts: &Counts, stream: &str) -> Option<[f64; 2]> {
    kappa(counts)?;
    let n = total(counts);
    let mut rng = Streams::new(0).rng(0, "audit/bootstrap", stream);
    let [ff, fs, sf] = [counts[0][0], counts[0][1], counts[1][0]];
    let mut resample = || {
        let mut drawn = Counts::default();
        for _ in 0..n {
            let pair = rng.random_range(0..n);
            let (one, other) = match pair {
                _ if pair < ff => (0, 0),
                _ if pair < ff + fs => (0, 1),
                _ if pair < ff + fs + sf => (1, 0),
                _ => (1, 1),
            };
            drawn[one][other] += 1;
        }
        kappa(&drawn)
    };
    percentiles((0..RESAMPLES).filter_map(|_| resample()).collect())
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

    /// `sklearn.metrics.cohen_kappa_score` of scikit-learn 1.9.1; intervals from 40,000 resamples of the
    /// pairs and `numpy.percentile`, numpy 2.4.6.
    #[test]
    fn kappa_and_its_interval_are_those_of_scikit_learn_and_numpy() {
        for (counts, kappa, [low, high]) in [
            ([[20, 5], [10, 15]], 0.4, [0.146_341_46, 0.64]),
            ([[45, 15], [25, 15]], 0.130_434_782_608_695_68, [-0.064_291_92, 0.321_366_02]),
            ([[9, 1], [1, 0]], -0.100_000_000_000_000_09, [-0.279_069_77, 0.0]),
            ([[7, 0], [0, 5]], 1.0, [1.0, 1.0]),
            ([[3, 17], [19, 1]], -0.8, [-0.940_298_51, -0.542_168_67]),
        ] {
            let got = of(counts);
            assert!((got.kappa.unwrap() - kappa).abs() < 1e-12, "{counts:?}: {got:?}");
            let interval = got.interval.unwrap();
            assert!((interval[0] - low).abs() < 0.03, "{counts:?}: {got:?}");
            assert!((interval[1] - high).abs() < 0.03, "{counts:?}: {got:?}");
        }
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
