//! Intervals and p-values by Student's t.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

/// Student's t interval of a mean at 95%: `mean ± t s / sqrt(n)`, with `t` the 97.5th percentile of Student's
/// distribution with `n - 1` degrees of freedom and `s` the sample standard deviation.
///
/// It covers the mean of a normal distribution in 95% of samples, whatever their size. Returns `None` for fewer than two
/// values, and where one is not finite.
pub fn mean_interval(values: &[f64]) -> Option<[f64; 2]> {
    let n = values.len() as f64;
    if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = student_t(values.len() - 1, 0.95) * (squares / (n - 1.0) / n).sqrt();
    Some([mean - half, mean + half])
}

/// Interval of a mean at 95% whose values fall into clusters, such as questions about one video: `mean ± t e`, with `t` the
/// 97.5th percentile of Student's distribution with `G - 1` degrees of freedom and
/// `e² = G / (G - 1) Σ_g (Σ_{i in g} (x_i - mean))² / n²` for `G` clusters and `n` values.
///
/// The cluster-robust variance of Liang and Zeger (1986) of a mean, with the correction for few clusters (CR1; Cameron and
/// Miller, 2015, §VI), as recommended for evaluations by Miller (2024, arXiv 2411.00640, §2.2). With one value in each
/// cluster it is [`mean_interval`]. Returns `None` for fewer than two clusters, and where a value is not finite.
pub fn clustered_mean_interval(values: &[(&str, f64)]) -> Option<[f64; 2]> {
    let n = values.len() as f64;
    let mean = values.iter().map(|(_, value)| value).sum::<f64>() / n;
    let mut residuals: BTreeMap<&str, f64> = BTreeMap::new();
    for (cluster, value) in values {
        *residuals.entry(cluster).or_default() += value - mean;
    }
    let clusters = residuals.len();
    if clusters < 2 || !mean.is_finite() {
        return None;
    }
    let squares: f64 = residuals.values().map(|sum| sum.powi(2)).sum();
    let correction = clusters as f64 / (clusters - 1) as f64;
    let half = student_t(clusters - 1, 0.95) * (correction * squares).sqrt() / n;
    Some([mean - half, mean + half])
}

/// The `t` with `P(|T| < t) = level`, for Student's distribution with whole degrees of freedom, at least 1; 2.776 for 4 at 0.95.
pub(crate) fn student_t(df: usize, level: f64) -> f64 {
    // The two-sided probability rises with the angle atan(t / sqrt(df)).
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if two_sided(middle, df) < level { low = middle } else { high = middle }
    }
    (df as f64).sqrt() * low.tan()
}

/// Two-sided p-value of a t statistic, `P(|T| >= |t|)`, for Student's distribution with whole degrees of freedom, at least 1. Exact to
/// about 1e-15, so that smaller ones are 0.
pub(crate) fn p_value(t: f64, df: usize) -> f64 {
    (1.0 - two_sided((t.abs() / (df as f64).sqrt()).atan(), df)).max(0.0)
}

/// `P(|T| < sqrt(df) tan(angle))`: Abramowitz and Stegun (1964), 26.7.3 for odd and 26.7.4 for even degrees of freedom.
fn two_sided(angle: f64, df: usize) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let even = df.is_multiple_of(2);
    let (mut term, mut sum) = (if even { 1.0 } else { cosine }, 0.0);
    let mut power = if even { 0 } else { 1 };
    while power + 2 <= df {
        sum += term;
        term *= cosine * cosine * (power as f64 + 1.0) / (power as f64 + 2.0);
        power += 2;
    }
    if even { sine * sum } else { FRAC_2_PI * (angle + sine * sum) }
}

/// The 2.5th and the 97.5th percentile of drawn values; `None` without any.
pub(crate) fn percentiles(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    Some([quantile(&values, 0.025)?, quantile(&values, 0.975)?])
}

/// Quantile of sorted values with linear interpolation, as `numpy.percentile`.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use isr_api::Streams;
    use rand::Rng;

    use super::*;

    /// `scipy.stats.t.ppf(0.975, df)` of SciPy 1.17.1.
    const SCIPY: &str = include_str!("student_t.txt");

    const SCIPY_LEVELS: [(f64, usize, f64); 6] = [
        (0.008333333333333333, 2, 10.885866619163108),
        (0.016666666666666666, 4, 3.9607864827701835),
        (0.0025, 1, 254.64659994875322),
        (0.005, 14, 3.325695817838035),
        (0.1, 2, 2.9199855803537242),
        (0.0005, 9, 5.290653840306525),
    ];
    const SCIPY_P_VALUES: [(f64, usize, f64); 7] = [
        (0.5, 1, 0.7048327646991335),
        (1.3, 2, 0.3232470318160403),
        (4.302652729911275, 2, 0.04999999999651663),
        (2.776, 4, 0.05002277831997642),
        (10.9, 2, 0.00831200519026775),
        (3.2, 14, 0.006420541165424651),
        (25.0, 5, 1.910677784395424e-06),
    ];

    #[test]
    fn quantiles_are_those_of_scipy() {
        let lines: Vec<f64> = SCIPY.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(lines.len(), 200);
        for (index, expected) in lines.into_iter().enumerate() {
            let got = student_t(index + 1, 0.95);
            assert!((got - expected).abs() < 1e-10 * expected, "df {}: {got}, not {expected}", index + 1);
        }
    }

    /// `scipy.stats.t.ppf(1 - tail / 2, df)` and `2 * scipy.stats.t.sf(t, df)` of SciPy 1.17.1.
    #[test]
    fn other_levels_and_p_values_are_those_of_scipy() {
        for (tail, df, expected) in SCIPY_LEVELS {
            let got = student_t(df, 1.0 - tail);
            assert!((got - expected).abs() < 1e-9 * expected, "{tail} {df}: {got}, not {expected}");
        }
        for (t, df, expected) in SCIPY_P_VALUES {
            let got = p_value(-t, df);
            assert!((got - expected).abs() < 1e-14, "{t} {df}: {got}, not {expected}");
        }
        assert_eq!((p_value(0.0, 3), p_value(f64::INFINITY, 3)), (1.0, 0.0));
    }

    /// `scipy.stats.t.interval(0.95, n - 1, mean, std(ddof=1) / sqrt(n))` of SciPy 1.17.1.
    #[test]
    fn intervals_are_those_of_scipy() {
        for (values, expected) in [
            (&[0.57, 0.61, 0.64, 0.58, 0.70][..], [0.554_886_590_611_478_2, 0.685_113_409_388_521_6]),
            (&[0.02, 0.05, -0.01], [-0.054_524_131_352_509_914, 0.094_524_131_352_509_92]),
        ] {
            let got = mean_interval(values).unwrap();
            assert!((0..2).all(|end| (got[end] - expected[end]).abs() < 1e-12), "{got:?}");
        }
        assert_eq!(mean_interval(&[0.5, 0.5]), Some([0.5, 0.5]));
        for values in [&[][..], &[0.5], &[0.5, f64::NAN], &[f64::INFINITY, 1.0]] {
            assert_eq!(mean_interval(values), None, "{values:?}");
        }
    }

    /// `OLS(y, ones).fit(cov_type="cluster", use_t=True, cov_kwds={"groups": g, "df_correction": True}).conf_int()` of
    /// statsmodels 0.15.0.
    #[test]
    fn intervals_of_clusters_are_those_of_statsmodels() {
        for (values, clusters, expected) in [
            (
                &[1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0][..],
                &["a", "a", "a", "b", "b", "c", "c", "d", "d", "d"][..],
                [0.429_960_476_412_618_03, 0.970_039_523_587_381_9],
            ),
            (
                &[4.0, 3.5, 2.0, 5.0, 1.0, 4.0],
                &["a", "a", "b", "b", "c", "c"],
                [1.606_897_348_067_893, 4.893_102_651_932_109],
            ),
        ] {
            let paired: Vec<_> = clusters.iter().copied().zip(values.iter().copied()).collect();
            let got = clustered_mean_interval(&paired).unwrap();
            assert!((0..2).all(|end| (got[end] - expected[end]).abs() < 1e-12), "{got:?}");
        }
        let values = [0.57, 0.61, 0.64, 0.58, 0.70];
        let single: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().zip(values).collect();
        let (got, alone) = (clustered_mean_interval(&single).unwrap(), mean_interval(&values).unwrap());
        assert!((0..2).all(|end| (got[end] - alone[end]).abs() < 1e-12), "{got:?}");
        assert_eq!(clustered_mean_interval(&[("a", 1.0), ("a", 0.0)]), None);
        assert_eq!(clustered_mean_interval(&[("a", 1.0), ("b", f64::NAN)]), None);
        assert_eq!(clustered_mean_interval(&[]), None);
    }

    /// Share of simulated experiments whose interval holds the true mean of 0.
    fn coverage(n: usize, draw: impl Fn(f64, f64) -> f64) -> f64 {
        const EXPERIMENTS: usize = 20_000;
        let mut rng = Streams::new(0).rng(0, "coverage", &n.to_string());
        let mut covered = 0;
        for _ in 0..EXPERIMENTS {
            let values: Vec<f64> = (0..n).map(|_| draw(1.0 - rng.random::<f64>(), rng.random())).collect();
            let [low, high] = mean_interval(&values).unwrap();
            covered += usize::from(low <= 0.0 && high >= 0.0);
        }
        covered as f64 / EXPERIMENTS as f64
    }

    #[test]
    fn what_is_called_95_percent_covers_95_percent_also_of_three_seeds() {
        let normal = |u: f64, v: f64| (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let uniform = |u: f64, _: f64| u - 0.5;
        for n in [2, 3, 5, 10] {
            let share = coverage(n, normal);
            assert!((0.945..0.955).contains(&share), "{n} normal values: {share}");
        }
        for n in [3, 5] {
            let share = coverage(n, uniform);
            assert!((0.91..0.97).contains(&share), "{n} uniform values: {share}");
        }
    }
}
