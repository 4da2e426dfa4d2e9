//! Hyperparameter sweeps and ablations over seeds: `isr sweep`.
//!
//! | step | where |
//! |---|---|
//! | the sweep file | `file` |
//! | file -> arms: named, grid, draws, constraints | `expand` |
//! | arms x bases x seeds -> configs, read and checked | `plan` |
//! | comparisons that are stated before the first run, and their verdicts | `claims` |
//! | configs -> shared stages and estimated time | `forecast` |
//! | runs, each in its own process | `run`, `halving`, `scheduler` |
//! | run directories -> metrics, means, confidence intervals, paired differences | `metrics`, `results` |
//! | these -> files | `output`, `table` (Parquet), `page` (HTML) |
//! | `sweep.json` -> tables of a paper | `paper_tables` |
//!
//! A sweep is resumed from its folder: complete runs are skipped, interrupted ones continue.
//!
//! ```text
//! sweeps/NAME/
//!   arms/ARM/[BASE/]seed-S/   a run directory, made by `isr run`;  arms/ARM/seed-S.log  what it said
//!   shared/stages/     stages that arms have in common ([`isr_run::stage_cache`])
//!   shared/features/   visual features
//!   sweep.json  metrics.parquet  sweep.html
//!   claims.json        claims, as they were stated before the first run
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod claims;
mod error;
mod expand;
mod file;
mod forecast;
mod halving;
mod metrics;
mod neighbours;
mod outcome;
mod outcome_sentence;
mod output;
mod page;
mod paper_tables;
mod plan;
mod results;
mod run;
pub mod scheduler;
mod table;

pub use claims::{Claim, ClaimResult, Comparison, Direction, Verdict, claims_note};
pub use error::SweepError;
pub use expand::{Arm, expand};
pub use file::{Base, Draws, Goal, Halving, NamedArm, Resources, SweepFile};
pub use forecast::{Forecast, Seconds, StageForecast};
pub use metrics::{Figure, figures};
pub use outcome::Outcome;
pub use output::{read_results, write_results};
pub use paper_tables::{Iterations, Part, TableOptions, csv, of_some_metrics, paper_tables};
pub use plan::{Member, Plan};
pub use results::{
    ArmResult, Estimate, INTERVALS, INTERVALS_OF_BASES, Point, Results, RunResult, SCHEMA, Status, results,
};
pub use run::{Progress, run};
