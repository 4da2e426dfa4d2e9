//! What a setting may be, and the sentence that says so.

use crate::divergence::Divergence;

/// The values that a setting may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bounds {
    /// More than 0. The upper bound keeps products with log-ratios of 1e4 far from overflow.
    Positive,
    /// At least 0, and at most 1e6 for the same reason.
    NotNegative,
    /// From the first to the second, without the second.
    Below(f64, f64),
    /// Between the two, without either.
    Inside(f64, f64),
    /// From the first to the second, both included.
    Within(f64, f64),
    /// Any value of the type.
    Any,
}

impl Bounds {
    fn hold(self, value: f64) -> bool {
        match self {
            Self::Positive => value > 0.0 && value <= 1e6,
            Self::NotNegative => (0.0..=1e6).contains(&value),
            Self::Below(low, high) => (low..high).contains(&value),
            Self::Inside(low, high) => value > low && value < high,
            Self::Within(low, high) => (low..=high).contains(&value),
            Self::Any => value.is_finite(),
        }
    }

    fn sentence(self) -> String {
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

/// A setting that can be checked.
pub(crate) trait Checked {
    /// Names the setting and what it may be where it is out of bounds.
    fn check(&self, name: &str, bounds: Bounds) -> Result<(), String>;
}

impl Checked for f64 {
    fn check(&self, name: &str, bounds: Bounds) -> Result<(), String> {
        match bounds.hold(*self) {
            true => Ok(()),
            false => Err(format!("{name} is {self}; it must be {}", bounds.sentence())),
        }
    }
}

impl Checked for Option<f64> {
    fn check(&self, name: &str, bounds: Bounds) -> Result<(), String> {
        self.map_or(Ok(()), |value| value.check(name, bounds))
    }
}

/// A type without wrong values.
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
