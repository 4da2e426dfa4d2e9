//! Config of a scheduler.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scheduler::ray::RayScheduler;
use crate::scheduler::slurm::SlurmScheduler;
use crate::scheduler::{Local, Ray, Scheduler, SchedulerError, Slurm};

/// Scheduler of a sweep, chosen by the key `type`. Default: local without limits but the cores.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SchedulerConfig {
    /// Local processes.
    Local(Local),
    /// Slurm job arrays.
    Slurm(Slurm),
    /// Ray jobs.
    Ray(Ray),
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self::Local(Local::default())
    }
}

impl SchedulerConfig {
    /// Opens the back end. `state` is the absolute path of a folder for its records of submitted jobs, by which a later call finds
    /// jobs of an interrupted one. It is created when needed, and all nodes must see it under the same path.
    ///
    /// # Errors
    /// [`SchedulerError::State`] where `state` is a relative path.
    pub fn open(&self, state: &Path) -> Result<Box<dyn Scheduler>, SchedulerError> {
        if !state.is_absolute() {
            return Err(SchedulerError::State(state.to_owned()));
        }
        let state = state.to_owned();
        Ok(match self {
            Self::Local(local) => Box::new(local.clone()),
            Self::Slurm(slurm) => Box::new(SlurmScheduler { settings: slurm.clone(), state }),
            Self::Ray(ray) => Box::new(RayScheduler { settings: ray.clone(), state }),
        })
    }
}
