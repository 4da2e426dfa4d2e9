//! What the judges of a run are worth, measured from what the run wrote down.
//!
//! A judge's verdicts are trained on, so its faults are learned. This crate counts them, for each iteration
//! and judge:
//!
//! | figure | of what | where |
//! |---|---|---|
//! | agreement, Cohen's kappa with its interval | the facts, people, and for another judge the run's | `agreement` |
//! | agreement of both orders, share of the answer shown first | votes | `position` |
//! | share of the longer answer, log-odds for a word more | verdicts | `length` |
//! | verdicts that could not be had | quarantine of the judge's stage | `failures` |
//! | seconds | `timings.jsonl` | `failures` |
//!
//! What was not recorded is left out. Answers, verdicts and votes come from the run's journals; what is
//! true is lent by the caller ([`TruthSource`]), as only the run's own evaluator knows it; what people chose
//! stands in the run's `annotations.jsonl`.
//!
//! # Judges other than the run's
//! A folder that holds `iteration-NN/verdicts.jsonl` about the run's answers is another judge: those below
//! `RUN/audits/`, which [`Rejudging`] writes, and those that the caller names.
//!
//! Two judges, or a judge and a person, are compared on what both decided: a probability of exactly one
//! half, a tie of a person, and equally good answers are left out and counted as ties.

mod agreement;
mod audit;
mod bootstrap;
mod error;
mod failures;
mod judgments;
mod length;
mod people;
mod position;
mod rejudge;

pub use agreement::Agreement;
pub use audit::{JudgeAudit, RunAudit, TruthSource, audit};
pub use bootstrap::mean_interval;
pub use error::AuditError;
pub use failures::Failures;
pub use judgments::judged_iterations;
pub use length::{Length, Slope};
pub use position::Position;
pub use rejudge::{Rejudging, Seen, SeenVideo};
