//! Runs independent commands: as processes of this machine, as a Slurm job array, or as Ray jobs.
//!
//! A library of `isr sweep`, and no part of the plugin system: it knows jobs (a command, a folder, a log,
//! what it needs) and nothing of runs. Machines share a file system with whoever asks; what else a back end
//! needs, and the files by which it survives being cut, stand in `docs/schedulers.md`.
//!
//! ```toml
//! scheduler = { type = "local", jobs = 4 }
//! scheduler = { type = "slurm", options = ["--partition=gpu", "--time=4:00:00"] }
//! scheduler = { type = "ray", address = "http://head:8265", jobs = 8 }
//! ```

mod config;
mod error;
mod job;
mod local;
mod ray;
mod shell;
mod slurm;

pub use config::SchedulerConfig;
pub use error::SchedulerError;
pub use job::{Job, JobEnd, JobEvent, Scheduler, Watch};
pub use local::Local;
pub use ray::Ray;
pub use slurm::Slurm;
