//! Objectives.

use isr_api::{Cause, ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements};
use isr_plugin::wire::{Message, RequirementsMessage};

use crate::runner::Runner;

/// An objective of a library.
pub(crate) struct NativeObjective {
    runner: Runner,
    requirements: Requirements,
}

impl NativeObjective {
    /// An objective whose requirements are asked for once, since they do not change.
    pub(crate) fn new(runner: Runner) -> Result<Self, Cause> {
        let reply = runner.call_now("requirements", &Message::default())?;
        let requirements: RequirementsMessage = runner.read("requirements", &reply)?;
        Ok(Self { runner, requirements: requirements.try_into()? })
    }
}

impl PreferenceObjective for NativeObjective {
    fn requirements(&self) -> Requirements {
        self.requirements.clone()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        self.runner.evaluate(batch)
    }
}
