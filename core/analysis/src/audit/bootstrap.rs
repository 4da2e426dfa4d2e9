//! Percentile bootstrap intervals.

use isr_api::Streams;
use rand::Rng;

/// Resamples of an interval.
pub(crate) const RESAMPLES: usize = 2000;

/// 95% percentile bootstrap interval of a mean: 2.5th and 97.5th percentile of the means of 2000 resamples, drawn with replacement
/// from the random stream `stream`. Returns `None` for fewer than two values.
///
/// It is too narrow for few values: for five, about two thirds as wide as Student's t interval.
pub fn mean_interval(values: &[f64], stream: &str) -> Option<[f64; 2]> {
    if values.len() < 2 {
        return None;
    }
    let mut rng = Streams::new(0).rng(0, "bootstrap/mean", stream);
    let mut mean = || {
        let drawn = (0..values.len()).map(|_| values[rng.random_range(0..values.len())]);
        drawn.sum::<f64>() / values.len() as f64
    };
    percentiles((0..RESAMPLES).map(|_| mean()).collect())
}

/// The 2.5th and the 97.5th percentile of resampled statistics.
pub(crate) fn percentiles(mut statistics: Vec<f64>) -> Option<[f64; 2]> {
    statistics.sort_by(f64::total_cmp);
    Some([quantile(&statistics, 0.025)?, quantile(&statistics, 0.975)?])
}

/// Quantile of sorted values with linear interpolation, as `numpy.percentile`.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 3125 equally likely resamples of five values: the percentiles that random resamples estimate.
    #[test]
    fn the_interval_of_five_values_is_that_of_all_their_resamples() {
        let values = [0.57, 0.61, 0.64, 0.58, 0.70];
        let mut means = Vec::new();
        for code in 0..5_usize.pow(5) {
            means.push((0..5_u32).map(|place| values[code / 5_usize.pow(place) % 5]).sum::<f64>() / 5.0);
        }
        let exact = percentiles(means).unwrap();
        let got = mean_interval(&values, "test").unwrap();
        assert!(
            (got[0] - exact[0]).abs() < 0.003 && (got[1] - exact[1]).abs() < 0.003,
            "{got:?} {exact:?}"
        );
        assert_eq!(mean_interval(&values, "test"), Some(got));
    }

    #[test]
    fn of_one_value_there_is_no_interval() {
        assert_eq!(mean_interval(&[0.5], "test"), None);
        assert_eq!(mean_interval(&[0.5, 0.5], "test"), Some([0.5, 0.5]));
    }
}
