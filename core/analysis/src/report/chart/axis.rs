//! Axes with round ticks.

/// A range of values, mapped onto a stretch of paper, with its ticks.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    /// Distance of two ticks.
    pub(super) step: f64,
}

impl Axis {
    /// An axis over `low..=high`, widened to round ticks, about `ticks` of them.
    pub(super) fn round(low: f64, high: f64, ticks: usize, from: f64, to: f64) -> Self {
        let step = round_step((high - low) / ticks as f64);
        let low = (low / step + 1e-9).floor() * step;
        let high = (high / step - 1e-9).ceil() * step;
        Self { low, high, from, to, step }
    }

    /// An axis over exactly `low..=high`, with ticks at multiples of a round whole step.
    pub(super) fn whole(low: f64, high: f64, ticks: usize, from: f64, to: f64) -> Self {
        let step = round_step((high - low) / ticks as f64).max(1.0).round();
        Self { low, high, from, to, step }
    }

    /// Where a value lies on paper.
    pub(super) fn place(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        let share = if span > 0.0 { (value - self.low) / span } else { 0.5 };
        self.from + share * (self.to - self.from)
    }

    /// True for values on the axis.
    pub(super) fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The values that get a tick.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step - 1e-6).ceil() as i64;
        let last = (self.high / self.step + 1e-6).floor() as i64;
        (first..=last).map(|index| index as f64 * self.step).collect()
    }

    /// Decimals that tell neighbouring ticks apart.
    pub(super) fn decimals(&self) -> usize {
        (-self.step.log10() - 1e-9).ceil().max(0.0) as usize
    }
}

/// The range to show: the values with some air, no narrower than `least`, and within `bounds`
/// where all values are.
pub(super) fn range(
    values: impl Iterator<Item = f64>,
    least: f64,
    bounds: Option<(f64, f64)>,
) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return bounds.unwrap_or((0.0, 1.0));
    }
    let missing = (least - (high - low)).max((high - low) * 0.1) / 2.0;
    let (wide_low, wide_high) = (low - missing, high + missing);
    match bounds {
        Some((least, most)) if low >= least && high <= most => {
            let (below, above) = ((least - wide_low).max(0.0), (wide_high - most).max(0.0));
            ((wide_low - above).max(least), (wide_high + below).min(most))
        }
        _ if low >= 0.0 => (wide_low.max(0.0), wide_high),
        _ => (wide_low, wide_high),
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is no less than `step`.
fn round_step(step: f64) -> f64 {
    if !(step.is_finite() && step > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(step.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|nice| nice * power >= step * (1.0 - 1e-9));
    nice.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let axis = Axis::round(0.413, 0.68, 4, 100.0, 0.0);
        let ticks = axis.ticks();
        assert_eq!(
            ticks.iter().map(|tick| format!("{tick:.1}")).collect::<Vec<_>>(),
            ["0.4", "0.5", "0.6", "0.7"]
        );
        assert!((axis.place(0.4) - 100.0).abs() < 1e-9 && axis.place(0.7).abs() < 1e-9);
        assert_eq!(axis.decimals(), 1);
    }

    #[test]
    fn whole_axes_have_whole_ticks() {
        let axis = Axis::whole(0.0, 9.0, 10, 0.0, 90.0);
        assert_eq!(axis.ticks().len(), 10);
        assert_eq!(Axis::whole(0.0, 0.0, 10, 0.0, 90.0).place(0.0), 45.0);
        assert_eq!(Axis::whole(0.0, 2000.0, 6, 0.0, 1.0).step, 500.0);
    }

    #[test]
    fn ranges_stay_within_bounds_that_hold_the_values() {
        assert_eq!(range([0.99, 1.0].into_iter(), 0.2, Some((0.0, 1.0))), (0.8, 1.0));
        assert_eq!(range(std::iter::empty(), 0.2, None), (0.0, 1.0));
        let (low, high) = range([0.5].into_iter(), 0.2, Some((0.0, 1.0)));
        assert!((low - 0.4).abs() < 1e-9 && (high - 0.6).abs() < 1e-9);
        assert!(range([1.0, f64::NAN, 3.0].into_iter(), 0.0, None).1 < 3.2);
    }
}
