//! Slurm job arrays, by `sbatch`, `squeue`, `sacct` and `scancel`.

mod array;
mod commands;
mod state;
mod tasks;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use commands::Programs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::Tasks;
use tokio_util::sync::CancellationToken;

use crate::scheduler::{Error, Job, Scheduler, Watch, job};

/// Slurm job arrays: one for the jobs that ask for the same cores and GPUs.
///
/// Needs the programs `sbatch`, `squeue` and `scancel`, and the folders of jobs, logs and state on a file
/// system that compute nodes share. Jobs inherit the environment of `sbatch`, as Slurm's `--export`
/// has it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Slurm {
    /// Options of `sbatch`: partition, account, time, memory. Those of the array, its name, its output,
    /// cores and GPUs are given already.
    pub options: Vec<String>,
    /// Folder of Slurm's programs, where it is not on PATH.
    pub bin: Option<PathBuf>,
    /// Jobs at once (the array's `%`). Without it, as many as the cluster lets run.
    pub jobs: Option<usize>,
    /// Seconds between two looks at the queue.
    pub poll: f64,
    /// Seconds that a file may take to be seen here: how long the exit status of a job that has left the
    /// queue is waited for.
    pub settle: f64,
}

impl Default for Slurm {
    fn default() -> Self {
        Self { options: Vec::new(), bin: None, jobs: None, poll: 10.0, settle: 60.0 }
    }
}

/// Slurm, and the folder in which it remembers what it submitted.
pub(crate) struct SlurmScheduler {
    pub(crate) settings: Slurm,
    pub(crate) state: PathBuf,
}

#[async_trait]
impl Scheduler for SlurmScheduler {
    async fn run(
        &self,
        jobs: Vec<Job>,
        watch: &mut Watch<'_>,
        cancel: CancellationToken,
    ) -> Result<(), Error> {
        job::check(&jobs)?;
        let mut tasks = Tasks::find(Programs::new(self.settings.bin.as_deref()), &self.state, jobs).await?;
        if !cancel.is_cancelled() {
            tasks.submit(&self.state, &self.settings).await?;
        }
        let mut told = false;
        let poll = seconds(self.settings.poll);
        while tasks.are_left() {
            if cancel.is_cancelled() && !told {
                tasks.cancel().await?;
                told = true;
            }
            tasks.look(seconds(self.settings.settle), told, watch).await?;
            if tasks.are_left() {
                tokio::select! {
                    () = tokio::time::sleep(poll) => {}
                    () = cancel.cancelled(), if !told => {}
                }
            }
        }
        tasks.forget()
    }
}

/// Also of what is no number of seconds.
fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}
