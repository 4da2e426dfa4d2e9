//! Audits of a run's judges.

pub use isr_analysis::from_config::{Audited, audit_run};
