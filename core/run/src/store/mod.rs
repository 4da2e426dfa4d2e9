//! What a run leaves on disk, and how it is written so that a cut run can go on.
//!
//! ```text
//! runs/NAME/
//!   config.toml  provenance.json  fingerprints.json
//!   iteration-00/  evaluation.jsonl evaluation.json            the starting model
//!   iteration-01/  responses.jsonl contexts.jsonl verdicts.jsonl pairs.jsonl quarantine.jsonl
//!                  metrics.jsonl evaluation.jsonl evaluation.json checkpoint/
//!   summary.json
//!   audits/NAME/   iteration-01/verdicts.jsonl                 another judge's, by `isr audit --config`
//! ```
//!
//! A stage is finished where each of its items stands in its journal or in the quarantine; training is
//! finished where `checkpoint/` exists. Nothing else says how far a run is, so nothing can disagree.

mod atomic;
mod comparisons;
mod journal;
mod responses;
mod run_dir;

pub use atomic::{PendingDir, remove_dir, write_atomic};
pub use comparisons::{Comparison, comparisons};
pub(crate) use journal::to_lines;
pub use journal::{Journal, read_journal, scan_journal};
pub(crate) use responses::distinct_responses;
pub use responses::first_difference;
pub use run_dir::{RunDir, config_difference, iteration_dir, lock_dir, read_json, write_json};
