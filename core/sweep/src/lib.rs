//! Hyperparameter sweeps and ablations over seeds: `isr sweep`.
//!
//! | step | where |
//! |---|---|
//! | the sweep file | `file` |
//! | file -> arms: named, grid, draws, constraints | `expand` |
//! | arms x seeds -> configs, read and checked | `plan` |
//! | configs -> shared stages and estimated time | `forecast` |
//! | runs, each in its own process | `run`, `halving`, `scheduler` |
//! | run directories -> metrics, means, confidence intervals, paired differences | `metrics`, `results` |
//! | these -> files | `output`, `table` (Parquet), `page` (HTML) |
//!
//! A sweep is resumed from its folder: complete runs are skipped, interrupted ones continue.
//!
//! ```text
//! sweeps/NAME/
//!   arms/ARM/seed-S/   a run directory, made by `isr run`;  arms/ARM/seed-S.log  what it said
//!   shared/stages/     stages that arms have in common ([`isr_run::stage_cache`])
//!   shared/features/   visual features
//!   sweep.json  metrics.parquet  sweep.html
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

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
mod plan;
mod results;
mod run;
pub mod scheduler;
mod table;

pub use error::SweepError;
pub use expand::{Arm, expand};
pub use file::{Draws, Goal, Halving, NamedArm, Resources, SweepFile};
pub use forecast::{Forecast, Seconds, StageForecast};
pub use metrics::{Figure, figures};
pub use outcome::Outcome;
pub use output::write_results;
pub use plan::{Member, Plan};
pub use results::{ArmResult, Estimate, INTERVALS, Point, Results, RunResult, SCHEMA, Status, results};
pub use run::{Progress, run};
