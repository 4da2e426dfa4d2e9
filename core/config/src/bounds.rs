//! Range checks of settings, for [`Component::validate`](isr_api::Component::validate). Each returns an error message
//! with key, value and range.

/// Requires a finite number above 0.
pub fn positive(key: &str, value: f64) -> Result<(), String> {
    check(key, value, value.is_finite() && value > 0.0, "more than 0")
}

/// Requires a finite number of at least 0.
pub fn not_negative(key: &str, value: f64) -> Result<(), String> {
    check(key, value, value.is_finite() && value >= 0.0, "0 or more")
}

/// Requires a finite number.
pub fn finite(key: &str, value: f64) -> Result<(), String> {
    check(key, value, value.is_finite(), "a finite number")
}

/// Requires a number in [least, most].
pub fn between(key: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    check(key, value, (least..=most).contains(&value), &format!("in [{least}, {most}]"))
}

/// Requires a count above 0.
pub fn at_least_one(key: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{key} is 0; it must be at least 1")) } else { Ok(()) }
}

/// Requires that a condition holds of a number; `range` completes `it must be`.
pub fn check(key: &str, value: f64, holds: bool, range: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{key} is {value}; it must be {range}")) }
}
