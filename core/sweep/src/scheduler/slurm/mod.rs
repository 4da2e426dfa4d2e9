//! Slurm job arrays, by `sbatch`, `squeue`, `sacct` and `scancel`.

mod array;
mod commands;
mod config;
mod state;
mod tasks;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use commands::Programs;
pub use config::Slurm;
use tasks::Tasks;
use tokio_util::sync::CancellationToken;

use crate::scheduler::{Job, Scheduler, SchedulerError, Watch, job};

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
    ) -> Result<(), SchedulerError> {
        job::check(&jobs)?;
        let mut tasks = Tasks::find(Programs::new(self.settings.bin.as_deref()), &self.state, jobs).await?;
        let largest = tasks.largest_array(&self.settings).await;
        let mut told = false;
        let poll = seconds(self.settings.poll);
        while tasks.are_left() {
            if cancel.is_cancelled() && !told {
                tasks.cancel().await?;
                told = true;
            }
            if !told {
                tasks.submit(&self.state, &self.settings, largest).await?;
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
