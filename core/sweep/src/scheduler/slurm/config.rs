//! Config of the Slurm back end.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
