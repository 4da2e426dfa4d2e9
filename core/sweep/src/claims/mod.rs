//! Claims: comparisons that a sweep file states before its first run, and what came of them.
//!
//! | step | where |
//! |---|---|
//! | `[[claims]]`, checked against arms and their configs | `statement` |
//! | what was stated, and whether before the first result: `claims.json` | `record` |
//! | verdicts in words | `words` |
//! | paired differences -> interval, p-value, verdict | `verdict` |

mod record;
mod statement;
mod verdict;
mod words;

pub(crate) use record::{Stated, read_stated, state};
pub(crate) use statement::comparisons;
pub use statement::{Claim, Comparison, Direction};
pub use verdict::{ClaimResult, Verdict};
pub(crate) use verdict::{Sides, decide};
pub use words::claims_note;
pub(crate) use words::shown_p;
