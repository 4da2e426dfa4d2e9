//! `isr sweep`: many runs from one file.
//!
//! | step | where |
//! |---|---|
//! | the sweep file | `file` |
//! | file -> arms: named, grid, draws, constraints | `expand` |
//! | arms x seeds -> configs, read and checked | `plan` |
//! | configs -> what will be shared, and how long it takes | `forecast` |
//! | runs in processes of their own | `run`, `halving` |
//! | run directories -> figures, means, intervals, differences | `metrics`, `results` |
//! | these -> files | `output`, `table` (Parquet), `page` (HTML) |
//!
//! A sweep's folder says how far it is, as a run's does: what is complete is left alone, what was cut goes on.
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
mod outcome;
mod output;
mod page;
mod plan;
mod results;
mod run;
pub mod scheduler;
mod table;

pub use error::SweepError;
pub use expand::{Arm, expand};
pub use file::{Draws, Goal, Halving, NamedArm, SweepFile};
pub use forecast::{Forecast, Seconds, StageForecast};
pub use metrics::{Figure, figures};
pub use outcome::Outcome;
pub use output::write_results;
pub use plan::{Member, Plan};
pub use results::{ArmResult, Estimate, Point, Results, RunResult, SCHEMA, Status, results};
pub use run::{Progress, run};
