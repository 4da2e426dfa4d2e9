//! Config of the Slurm back end.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Slurm job arrays: one per combination of cores and GPUs, or several where there are more jobs than an array may have.
///
/// Needs the programs `sbatch`, `squeue` and `scancel`, and a file system shared with the compute nodes for job, log and state
/// folders. Jobs inherit the environment of `sbatch` as set by Slurm's `--export`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Slurm {
    /// Further options of `sbatch`: partition, account, time, memory. Array, name, output, cores and GPUs are set already.
    /// Default none.
    pub options: Vec<String>,
    /// Folder of Slurm's programs. Default: found on PATH.
    pub bin: Option<PathBuf>,
    /// Maximum number of concurrent jobs (the array's `%`). Of several arrays, each is then submitted when the one before has
    /// ended. Default: the cluster's limit.
    pub jobs: Option<usize>,
    /// Maximum number of jobs of an array. Default: the cluster's `MaxArraySize` by `scontrol show config`, or 1000 where that
    /// does not answer.
    pub max_array: Option<usize>,
    /// Seconds between two polls of the queue. Default 10.
    pub poll: f64,
    /// Seconds to wait for the exit status file of a job that has left the queue, which a shared file system may delay.
    /// Default 60.
    pub settle: f64,
}

impl Default for Slurm {
    fn default() -> Self {
        Self { options: Vec::new(), bin: None, jobs: None, max_array: None, poll: 10.0, settle: 60.0 }
    }
}
