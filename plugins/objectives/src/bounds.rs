//! Ranges of settings and their error messages.

use crate::divergence::Divergence;

/// Range of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bounds {
    /// `(0, 1e6]`. The upper bound keeps products with log-ratios of 1e4 far from overflow.
    Positive,
    /// `[0, 1e6]`; see [`Positive`](Self::Positive) for the upper bound.
    NotNegative,
    /// `[low, high)`.
    Below(f64, f64),
    /// `(low, high)`.
    Inside(f64, f64),
    /// `[low, high]`.
    Within(f64, f64),
    /// Any finite value.
    Any,
}

impl Bounds {
    fn contains(self, value: f64) -> bool {
        match self {
            Self::Positive => value > 0.0 && value <= 1e6,
            Self::NotNegative => (0.0..=1e6).contains(&value),
            Self::Below(low, high) => (low..high).contains(&value),
            Self::Inside(low, high) => value > low && value < high,
            Self::Within(low, high) => (low..=high).contains(&value),
            Self::Any => value.is_finite(),
        }
    }

    fn description(self) -> String {
        match self {
            Self::Positive => "more than 0 (and at most 1e6)".to_owned(),
            Self::NotNegative => "at least 0 (and at most 1e6)".to_owned(),
            Self::Below(low, high) => format!("in [{low}, {high})"),
            Self::Inside(low, high) => format!("in ({low}, {high})"),
            Self::Within(low, high) => format!("in [{low}, {high}]"),
            Self::Any => "a finite number".to_owned(),
        }
    }
}

/// A type of setting that can be checked against [`Bounds`].
pub(crate) trait Checked {
    /// # Errors
    /// A message with the setting's name, value and range if it is out of range.
    fn check(&self, name: &str, bounds: Bounds) -> Result<(), String>;
}

impl Checked for f64 {
    fn check(&self, name: &str, bounds: Bounds) -> Result<(), String> {
        match bounds.contains(*self) {
            true => Ok(()),
            false => Err(format!("{name} is {self}; it must be {}", bounds.description())),
        }
    }
}

impl Checked for Option<f64> {
    fn check(&self, name: &str, bounds: Bounds) -> Result<(), String> {
        self.map_or(Ok(()), |value| value.check(name, bounds))
    }
}

/// Implements [`Checked`] for types whose every value is valid.
macro_rules! always_valid {
    ($($ty:ty),+) => {
        $(impl Checked for $ty {
            fn check(&self, _: &str, _: Bounds) -> Result<(), String> {
                Ok(())
            }
        })+
    };
}

always_valid!(bool, Divergence, crate::cpo::CpoLoss, crate::kto::KtoLoss);
