//! Preference data for other trainers.

pub use isr_analysis::from_config::write_export;
