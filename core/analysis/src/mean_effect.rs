//! Means over base models and seeds, with intervals and p-values that hold for few of both.
//!
//! Model of a value of base `b` and seed `s`, such as a paired difference of two arms: `x_bs = mean + b_b + g_s + e_bs`, with
//! independent normal effects of bases, seeds and runs (two-way random effects without replication). The interval is about
//! `mean`, so about bases and seeds that were not run, and uses Student's t with as many degrees of freedom as bases less one.
//!
//! A percentile bootstrap that resamples bases and then seeds is no substitute: three bases have too few resamples, and a
//! test below shows its 95% intervals to cover about 80% where bases differ. Nor is a pooled standard deviation of all runs where a first test
//! finds no difference of bases: with three bases that test seldom finds one.

use std::collections::BTreeMap;

use crate::interval::{p_value, student_t};

/// Values by base (any index) and seed.
pub type Cells = BTreeMap<(usize, u64), f64>;

/// A mean with its standard error, to be compared with Student's t distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanEffect {
    /// Mean of the means of bases; of one base, of its seeds.
    pub mean: f64,
    /// Standard error of the mean.
    pub standard_error: f64,
    /// Degrees of freedom: bases less one; of one base, seeds less one.
    pub df: usize,
}

impl MeanEffect {
    /// Estimates the mean of values over bases and seeds.
    ///
    /// The standard error of one base is `s / sqrt(S)` of its `S` seeds. Of `B` bases it is the root of
    /// `(MSB + max(0, MSS - MSE)) / (B S)`, with the mean squares of bases, of seeds and of the residual of a two-way analysis of
    /// variance. `MSB / (B S)` alone is the variance of the means of bases over `B`, which is exact where the same seed does
    /// nothing alike to all bases (`g = 0`); the second term is the variance of a common effect of seeds, where there is more of it
    /// than the residual explains (Cameron, Gelbach and Miller 2011, of two-way clusters). It is 0 where not all bases have the same
    /// two seeds or more.
    ///
    /// Returns `None` for fewer than two bases and fewer than two seeds, and where a value is not finite.
    pub fn of(cells: &Cells) -> Option<Self> {
        if cells.values().any(|value| !value.is_finite()) {
            return None;
        }
        let bases: Vec<Vec<f64>> = groups(cells, base).into_values().collect();
        let (means, seeds) = match bases.as_slice() {
            [only] => (only.clone(), 0.0),
            bases => (bases.iter().map(|values| mean(values)).collect(), common_to_seeds(cells)),
        };
        let df = means.len().checked_sub(1).filter(|&df| df > 0)?;
        let variance = spread(&means) / means.len() as f64 + seeds;
        Some(Self { mean: mean(&means), standard_error: variance.sqrt(), df })
    }

    /// Returns the interval that covers the mean with probability `level`, such as 0.95.
    pub fn interval(&self, level: f64) -> [f64; 2] {
        let half = student_t(self.df, level) * self.standard_error;
        [self.mean - half, self.mean + half]
    }

    /// Returns the two-sided p-value of a mean of 0. A standard error of 0 gives 0, or 1 for a mean of 0.
    pub fn p_value(&self) -> f64 {
        match self.mean {
            0.0 => 1.0,
            mean => p_value(mean / self.standard_error, self.df),
        }
    }
}

/// Estimated variance that a common effect of seeds adds to the mean: `max(0, MSS - MSE) / (B S)`.
fn common_to_seeds(cells: &Cells) -> f64 {
    let (by_base, by_seed) = (groups(cells, base), groups(cells, seed));
    let (bases, seeds) = (by_base.len() as f64, by_seed.len() as f64);
    if by_seed.len() < 2 || cells.len() != by_base.len() * by_seed.len() {
        return 0.0;
    }
    let all = mean(&cells.values().copied().collect::<Vec<_>>());
    let means = |groups: &BTreeMap<u64, Vec<f64>>| -> BTreeMap<u64, f64> {
        groups.iter().map(|(&at, values)| (at, mean(values))).collect()
    };
    let (by_base, by_seed) = (means(&by_base), means(&by_seed));
    let squares = cells.iter().map(|(&at, value)| {
        let explained = by_base[&base(at)] + by_seed[&seed(at)] - all;
        (value - explained).powi(2)
    });
    let residual = squares.sum::<f64>() / ((bases - 1.0) * (seeds - 1.0));
    let of_seeds = spread(&by_seed.into_values().collect::<Vec<_>>());
    (of_seeds / seeds - residual / (bases * seeds)).max(0.0)
}

fn base((base, _): (usize, u64)) -> u64 {
    base as u64
}

fn seed((_, seed): (usize, u64)) -> u64 {
    seed
}

/// Values by base or by seed.
fn groups(cells: &Cells, by: fn((usize, u64)) -> u64) -> BTreeMap<u64, Vec<f64>> {
    let mut groups: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (&at, &value) in cells {
        groups.entry(by(at)).or_default().push(value);
    }
    groups
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample variance.
fn spread(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

/// P-values of a family of tests, adjusted by Holm's step-down procedure (1979): those below 0.05 are wrong, any of them, in at most 5%
/// of families. A test without a p-value stays without, and counts as one of the family.
pub fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> =
        p_values.iter().enumerate().filter_map(|(index, p)| Some((index, (*p)?))).collect();
    order.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let (mut adjusted, mut largest) = (vec![None; p_values.len()], 0.0_f64);
    for (rank, (index, p)) in order.into_iter().enumerate() {
        largest = largest.max((p_values.len() - rank) as f64 * p).min(1.0);
        adjusted[index] = Some(largest);
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use isr_api::Streams;
    use rand::Rng;

    use super::*;
    use crate::interval::{mean_interval, percentiles};

    fn cells(rows: &[&[f64]]) -> Cells {
        let row = |(base, row): (usize, &&[f64])| {
            row.iter().zip(1..).map(|(&value, seed)| ((base, seed), value)).collect::<Vec<_>>()
        };
        rows.iter().enumerate().flat_map(row).collect()
    }

    const BASES: [&[f64]; 3] = [
        &[0.046, 0.051, 0.039, 0.044, 0.048],
        &[0.021, 0.030, 0.026, 0.019, 0.028],
        &[0.060, 0.055, 0.064, 0.058, 0.061],
    ];

    fn close(got: f64, expected: f64) -> bool {
        (got - expected).abs() < 1e-12
    }

    /// Mean squares by numpy 2.4.6, quantiles by SciPy 1.17.1. `MixedLM(y, ones, groups=base).fit(reml=True)` of statsmodels 0.15.0,
    /// which maximises numerically, has the standard error 0.0101085.
    #[test]
    fn of_several_bases_it_is_the_estimate_of_a_mixed_model() {
        let effect = MeanEffect::of(&cells(&BASES)).unwrap();
        assert!(close(effect.mean, 0.043_333_333_333_333_34) && effect.df == 2, "{effect:?}");
        assert!(close(effect.standard_error, 0.010_109_621_379_875_927), "{effect:?}");
        let [low, high] = effect.interval(0.95);
        assert!(close(low, -0.000_164_856_693_523_334) && close(high, 0.086_831_523_360_190_01));
        assert!(close(effect.p_value(), 0.050_352_854_792_668_91), "{}", effect.p_value());
    }

    /// As above, with 0.03, -0.02, 0, -0.03, 0.02 added by seed; the mean squares are those of `anova_lm(ols("y ~ C(base) + C(seed)"))` of
    /// statsmodels 0.15.0.
    #[test]
    fn an_effect_that_a_seed_has_on_all_bases_widens_the_interval() {
        let shift = [0.03, -0.02, 0.0, -0.03, 0.02];
        let shifted = cells(&BASES)
            .into_iter()
            .map(|((base, seed), value)| ((base, seed), value + shift[seed as usize - 1]));
        let mut shifted: Cells = shifted.collect();
        let effect = MeanEffect::of(&shifted).unwrap();
        assert!(close(effect.standard_error, 0.015_445_423_630_030_713), "{effect:?}");
        assert!(close(effect.p_value(), 0.107_032_068_356_945_08), "{}", effect.p_value());
        // With a hole there are means of bases alone.
        shifted.remove(&(1, 5));
        assert!(MeanEffect::of(&shifted).unwrap().standard_error < 0.012);
    }

    /// `scipy.stats.ttest_1samp` of SciPy 1.17.1.
    #[test]
    fn of_one_base_it_is_students_t_over_seeds() {
        let effect = MeanEffect::of(&cells(&BASES[..1])).unwrap();
        assert!(close(effect.p_value(), 2.257_937_205_565_479e-5) && effect.df == 4);
        let ([low, high], [low_too, high_too]) = (effect.interval(0.95), mean_interval(BASES[0]).unwrap());
        assert!(close(low, low_too) && close(high, high_too));
        assert_eq!(MeanEffect::of(&cells(&[&[0.5]])), None);
        assert_eq!(MeanEffect::of(&Cells::new()), None);
        assert_eq!(MeanEffect::of(&cells(&[&[0.5, f64::NAN]])), None);
        assert_eq!(MeanEffect::of(&cells(&[&[0.5], &[0.7]])).unwrap().df, 1, "bases of one seed each");
    }

    /// `multipletests(p, method="holm")` of statsmodels 0.15.0.
    #[test]
    fn adjusted_p_values_are_those_of_statsmodels() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005, 0.5].map(Some));
        let expected = [0.04, 0.09, 0.09, 0.025, 0.5];
        assert!(adjusted.iter().zip(expected).all(|(got, expected)| close(got.unwrap(), expected)));
        assert_eq!(holm(&[Some(0.02), None, Some(0.9)]), [Some(0.06), None, Some(1.0)]);
    }

    /// Standard deviations of the effects of bases and of seeds; that of a run is 1.
    #[derive(Clone, Copy, Debug)]
    struct World {
        bases: usize,
        seeds: u64,
        of_bases: f64,
        of_seeds: f64,
    }

    /// Share of simulated studies whose interval holds the true mean of 0.
    fn coverage(world: World, studies: u32, interval: impl Fn(&Cells) -> [f64; 2]) -> f64 {
        let mut rng = Streams::new(0).rng(0, "coverage", &format!("{world:?}"));
        let mut normal = || -> f64 {
            let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        let mut covered = 0;
        for _ in 0..studies {
            let of_seeds: Vec<f64> = (0..world.seeds).map(|_| world.of_seeds * normal()).collect();
            let mut cells = Cells::new();
            for base in 0..world.bases {
                let of_base = world.of_bases * normal();
                for seed in 0..world.seeds {
                    cells.insert((base, seed), of_base + of_seeds[seed as usize] + normal());
                }
            }
            let [low, high] = interval(&cells);
            covered += u32::from(low <= 0.0 && high >= 0.0);
        }
        f64::from(covered) / f64::from(studies)
    }

    fn ours(cells: &Cells) -> [f64; 2] {
        MeanEffect::of(cells).unwrap().interval(0.95)
    }

    #[test]
    fn intervals_over_three_bases_and_five_seeds_cover_at_least_what_they_say() {
        for (of_bases, of_seeds, expected) in [
            (0.0, 0.0, 0.965..0.982),
            (0.5, 0.0, 0.962..0.979),
            (1.0, 0.0, 0.958..0.975),
            (3.0, 0.0, 0.945..0.963),
            (0.0, 1.0, 0.965..0.985),
            (1.0, 1.0, 0.975..0.992),
        ] {
            let share = coverage(World { bases: 3, seeds: 5, of_bases, of_seeds }, 8000, ours);
            assert!(expected.contains(&share), "{of_bases} {of_seeds}: {share}");
        }
    }

    /// More bases than seeds: where there is little beside a common effect of seeds, its few degrees of freedom are not counted.
    #[test]
    fn intervals_over_more_bases_than_seeds_need_bases_to_differ() {
        let share =
            |of_bases, of_seeds| coverage(World { bases: 5, seeds: 3, of_bases, of_seeds }, 8000, ours);
        let shares = [share(0.0, 0.0), share(1.0, 0.0), share(1.0, 1.0)];
        assert!(shares.iter().all(|share| (0.943..0.975).contains(share)), "{shares:?}");
        assert!((0.895..0.925).contains(&share(0.0, 1.0)));
    }

    /// Runs as if they were independent, and a first test of the difference of bases that decides on it.
    #[test]
    fn pooled_runs_cover_less_than_they_say() {
        let world = World { bases: 3, seeds: 5, of_bases: 0.5, of_seeds: 0.0 };
        let pooled = |cells: &Cells| mean_interval(&cells.values().copied().collect::<Vec<_>>()).unwrap();
        let share = coverage(world, 4000, pooled);
        assert!((0.83..0.88).contains(&share), "{share}");
        // 3.885 is the 95th percentile of F with 2 and 12 degrees of freedom, by `scipy.stats.f.ppf`.
        let tested_first = |cells: &Cells| {
            let by_base: Vec<_> = groups(cells, base).into_values().collect();
            let within = by_base.iter().map(|values| spread(values)).sum::<f64>() / 3.0;
            let means: Vec<f64> = by_base.iter().map(|values| mean(values)).collect();
            if 5.0 * spread(&means) / within > 3.885 { ours(cells) } else { pooled(cells) }
        };
        let share = coverage(world, 4000, tested_first);
        assert!((0.86..0.91).contains(&share), "{share}");
    }

    /// Bases are drawn with replacement, then seeds of each.
    #[test]
    fn a_percentile_bootstrap_over_bases_and_seeds_covers_less_than_it_says() {
        let world = World { bases: 3, seeds: 5, of_bases: 1.0, of_seeds: 0.0 };
        let bootstrap = |cells: &Cells| {
            let by_base: Vec<_> = groups(cells, base).into_values().collect();
            let mut rng = Streams::new(1).rng(0, "bootstrap", &format!("{:?}", cells.values().next()));
            let mut draw = || {
                let mut sum = 0.0;
                for _ in 0..by_base.len() {
                    let values = &by_base[rng.random_range(0..by_base.len())];
                    sum +=
                        (0..values.len()).map(|_| values[rng.random_range(0..values.len())]).sum::<f64>();
                }
                sum / cells.len() as f64
            };
            percentiles((0..300).map(|_| draw()).collect()).unwrap()
        };
        let share = coverage(world, 600, bootstrap);
        assert!((0.70..0.86).contains(&share), "{share}");
    }
}
