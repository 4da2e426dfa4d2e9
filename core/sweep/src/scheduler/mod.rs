//! Schedulers of independent jobs: local processes, Slurm job arrays, Ray jobs.
//!
//! A job is a command with a working directory, a log, and CPU and GPU requirements. Nodes must share a file system with the caller.
//! `docs/schedulers.md` documents each back end and the state files by which an interrupted call resumes.
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

pub use isr_run::PARENT_VARIABLE;
