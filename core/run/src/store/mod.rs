//! The run directory: layout, journals, atomic writes and the lock.
//!
//! ```text
//! runs/NAME/
//!   config.toml  provenance.json  fingerprints.json
//!   iteration-00/  evaluation.jsonl evaluation.json            the initial policy
//!   iteration-01/  responses.jsonl contexts.jsonl verdicts.jsonl pairs.jsonl quarantine.jsonl
//!                  metrics.jsonl evaluation.jsonl evaluation.json checkpoint/
//!   summary.json
//!   audits/NAME/   iteration-01/verdicts.jsonl                 of another judge, by `isr audit --config`
//! ```
//!
//! A stage is complete when each of its items is in its journal or in the quarantine; training is complete when
//! `checkpoint/` exists. No other file records progress, so the state of a run cannot be contradictory. The formats
//! of the files are those of [`isr_api::records`].
//!
//! | module | content |
//! |---|---|
//! | `run_dir` | [`RunDir`]: paths, the lock, and whether a config may resume the run |
//! | `journal` | [`Journal`]: append-only JSON lines that survive a crash |
//! | `atomic` | [`write_atomic`] and [`PendingDir`]: files and directories that appear whole |
//! | `comparisons` | the compared pairs of responses, as texts |
//! | `responses` | which responses to a sample differ |

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
