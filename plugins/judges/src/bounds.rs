//! Range checks of settings. Each returns an error message with key, value and range.

use isr_config::registry::{JudgeConfig, SelectionConfig};

/// Requires a finite number above 0.
pub(crate) fn positive(key: &str, value: f64) -> Result<(), String> {
    check(key, value, value.is_finite() && value > 0.0, "more than 0")
}

/// Requires a finite number of at least 0.
pub(crate) fn not_negative(key: &str, value: f64) -> Result<(), String> {
    check(key, value, value.is_finite() && value >= 0.0, "0 or more")
}

/// Requires a finite number.
pub(crate) fn finite(key: &str, value: f64) -> Result<(), String> {
    check(key, value, value.is_finite(), "a finite number")
}

/// Requires a margin in [0, 0.5].
pub(crate) fn margin(key: &str, value: f64) -> Result<(), String> {
    check(key, value, (0.0..=0.5).contains(&value), "in [0, 0.5]")
}

/// Requires a share in (0, 1].
pub(crate) fn share(key: &str, value: f64) -> Result<(), String> {
    check(key, value, value > 0.0 && value <= 1.0, "in (0, 1]")
}

/// Requires a number in [least, most].
#[cfg(feature = "http")]
pub(crate) fn between(key: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    check(key, value, (least..=most).contains(&value), &format!("in [{least}, {most}]"))
}

/// Requires a count above 0.
pub(crate) fn at_least_one(key: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{key} is 0; it must be at least 1")) } else { Ok(()) }
}

/// Validates a nested judge; `key` is its place.
pub(crate) fn judge(key: &str, config: &dyn JudgeConfig) -> Result<(), String> {
    config.validate().map_err(|reason| format!("{key} ({}): {reason}", config.name()))
}

/// Validates a nested selection; `key` is its place.
pub(crate) fn selection(key: &str, config: &dyn SelectionConfig) -> Result<(), String> {
    config.validate().map_err(|reason| format!("{key} ({}): {reason}", config.name()))
}

fn check(key: &str, value: f64, holds: bool, range: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{key} is {value}; it must be {range}")) }
}
