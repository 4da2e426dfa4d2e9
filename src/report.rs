//! HTML reports of runs.

pub use isr_analysis::from_config::write_report;
