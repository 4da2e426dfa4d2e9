//! Reliability of a run's judges, measured from its journals: `isr audit`.
//!
//! A policy is trained on its judge's verdicts and learns their biases. The audit measures them by iteration and judge:
//!
//! | figure | computed from | where |
//! |---|---|---|
//! | agreement, Cohen's kappa with its interval | the facts, people, and for another judge the run's | `agreement` |
//! | position bias: agreement of both presentation orders, share of votes for the response shown first | votes | `position` |
//! | length bias: share of the longer response, log-odds per word | verdicts | `length` |
//! | failed cases | quarantine of the judge's stage | `failures` |
//! | seconds | `timings.jsonl` | `failures` |
//!
//! Responses, verdicts and votes come from the run's journals, human choices from its `annotations.jsonl`, and facts from the
//! caller ([`TruthSource`]), since only the run's evaluator knows them. Figures without recorded inputs are null.
//!
//! # Judges other than the run's
//! A folder that holds `iteration-NN/verdicts.jsonl` about the run's answers is another judge: those below
//! `RUN/audits/`, which [`Rejudging`] writes, and those that the caller names.
//!
//! Two judges, or a judge and a person, are compared on the pairs that both decided. A probability of one half, a person's tie, and
//! responses of equal quality are ties ([`isr_api::Choice`]): they are counted apart. `agreement` and `longer_preferred` of a run's
//! own judge are those of its `summary.json`.

mod agreement;
mod error;
mod failures;
mod judgments;
mod length;
mod people;
mod position;
mod rejudge;
mod run_audit;

pub use agreement::Agreement;
pub use error::AuditError;
pub use failures::Failures;
pub use judgments::judged_iterations;
pub use length::{Length, Slope};
pub use position::Position;
pub use rejudge::{Rejudging, Seen, SeenVideo};
pub use run_audit::{JudgeAudit, RunAudit, TruthSource, audit};
