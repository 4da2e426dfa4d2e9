//! Range checks of settings: those of [`isr_config::bounds`], of probabilities and of nested components.

use isr_config::bounds::check;
pub(crate) use isr_config::bounds::{at_least_one, finite, not_negative, positive};
use isr_config::registry::{JudgeConfig, SelectionConfig};

/// Requires a margin in [0, 0.5].
pub(crate) fn margin(key: &str, value: f64) -> Result<(), String> {
    check(key, value, (0.0..=0.5).contains(&value), "in [0, 0.5]")
}

/// Requires a share in (0, 1].
pub(crate) fn share(key: &str, value: f64) -> Result<(), String> {
    check(key, value, value > 0.0 && value <= 1.0, "in (0, 1]")
}

/// Requires a clamp of probabilities in (0, 0.5).
pub(crate) fn clip(value: f64) -> Result<(), String> {
    check("clip", value, value > 0.0 && value < 0.5, "in (0, 0.5)")
}

/// Validates a nested judge; `key` is its place.
pub(crate) fn judge(key: &str, config: &dyn JudgeConfig) -> Result<(), String> {
    config.validate().map_err(|reason| format!("{key} ({}): {reason}", config.name()))
}

/// Validates a nested selection; `key` is its place.
pub(crate) fn selection(key: &str, config: &dyn SelectionConfig) -> Result<(), String> {
    config.validate().map_err(|reason| format!("{key} ({}): {reason}", config.name()))
}
