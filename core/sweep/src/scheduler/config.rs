//! Which back end, as a config says it.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scheduler::ray::RayScheduler;
use crate::scheduler::slurm::SlurmScheduler;
use crate::scheduler::{Local, Ray, Scheduler, SchedulerError, Slurm};

/// Where jobs run.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SchedulerConfig {
    /// Processes of this machine.
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
    /// The back end. `state` is a folder of its own, made where it needs one: what it knows of submitted
    /// jobs, so that a call after a cut finds them. It must be seen by all machines under the same path.
    ///
    /// # Errors
    /// [`SchedulerError::State`] where `state` is not absolute.
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
