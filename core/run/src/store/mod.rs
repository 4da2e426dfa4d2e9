//! The run directory: layout, journals, atomic writes and the lock.
//!
//! ```text
//! runs/NAME/
//!   config.toml  provenance.json  fingerprints.json  videos.json
//!   iteration-00/  evaluation.jsonl evaluation.json            the initial policy
//!   iteration-01/  responses.jsonl contexts.jsonl verdicts.jsonl pairs.jsonl quarantine.jsonl
//!                  preferences.jsonl                          pairs of datasets, where they are mixed in
//!                  responses.part-1.jsonl ...                 of a stage that several processes are at
//!                  metrics.jsonl evaluation.jsonl evaluation.json checkpoint/ stages.json
//!   summary.json
//!   audits/NAME/   iteration-01/verdicts.jsonl                 of another judge, by `isr audit --config`
//! ```
//!
//! A stage is complete when each of its items is in its journal or in the quarantine; training is complete when
//! `checkpoint/` exists. No other file records progress, so the state of a run cannot be contradictory. `stages.json`
//! holds digests of the journals of stages that have ended, and the fingerprint of the trained policy: a journal or a
//! checkpoint that differs from them is damaged. The formats of the files are those of [`isr_api::records`].
//!
//! | module | content |
//! |---|---|
//! | `run_dir` | [`RunDir`]: paths, the lock, and whether a config may resume the run |
//! | `lock`, `lease` | [`FileLock`], [`DirLock`], also on file systems without locks |
//! | `files` | files opened without following symbolic links |
//! | `marks` | `stages.json`: what tells damage from results |
//! | `space` | free space, and errors of a full disk |
//! | `journal` | [`Journal`]: append-only JSON lines that survive a crash |
//! | `atomic` | [`write_atomic`] and [`PendingDir`]: files and directories that appear whole |
//! | `comparisons` | the compared pairs of responses, as texts |
//! | `responses` | which responses to a sample differ |

mod atomic;
mod comparisons;
mod files;
mod journal;
mod lease;
mod lock;
mod marks;
mod responses;
mod run_dir;
mod space;

pub(crate) use atomic::tree_bytes;
pub use atomic::{PendingDir, remove_dir, write_atomic};
pub use comparisons::{Comparison, comparisons};
pub(crate) use files::create_dir_here;
pub(crate) use journal::to_lines;
pub use journal::{Journal, count_elements, read_journal, read_readable, scan_journal};
pub use lock::{DirLock, FileLock};
pub use marks::check_journals;
pub(crate) use marks::{LineDigests, StageMark, StageMarks, quarantine_digests};
pub(crate) use responses::distinct_responses;
pub use responses::{CountedReasoning, CountedResponse, first_difference};
pub use run_dir::{RunDir, config_difference, iteration_dir, lock_dir, read_json, write_json};
pub(crate) use space::explained;
pub use space::{free_bytes, shown_bytes};
