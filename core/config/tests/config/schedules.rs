//! Learning rates against transformers; `schedules.py` made the numbers.

use isr_config::{Schedule, TrainConfig};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    schedule: Schedule,
    warmup_ratio: f64,
    total: u64,
    rates: Vec<f64>,
}

#[test]
fn learning_rates_are_those_of_transformers() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("schedules.json")).unwrap();
    for Case { schedule, warmup_ratio, total, rates } in cases {
        let config = TrainConfig { schedule, warmup_ratio, learning_rate: 1.0, ..TrainConfig::default() };
        for (step, expected) in (0..).zip(rates) {
            let found = config.learning_rate_at(step, total);
            let close = (found - expected).abs() < 1e-15;
            assert!(close, "{schedule:?}, {warmup_ratio}, step {step} of {total}: {found}, not {expected}");
        }
    }
}

#[test]
fn warm_up_begins_at_zero_and_the_peak_follows_it() {
    let config = TrainConfig::default();
    assert_eq!(config.learning_rate_at(0, 100), 0.0);
    assert_eq!(config.learning_rate_at(10, 100), 5e-7);
    assert_eq!(config.learning_rate_at(100, 100), 0.0);
}
