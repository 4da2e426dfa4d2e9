//! Objectives.

use isr_api::{Cause, ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements};
use isr_plugin::wire::{Message, RemoteError, RequirementsForm};

use crate::runner::Runner;

pub(crate) struct NativeObjective {
    runner: Runner,
    requirements: Requirements,
}

impl NativeObjective {
    /// Asks for the requirements, once: they do not change.
    pub(crate) fn new(runner: Runner) -> Result<Self, Cause> {
        let reply = runner.call_now("requirements", &Message::default())?;
        let requirements: Result<_, RemoteError> =
            runner.read::<RequirementsForm>("requirements", &reply)?.try_into();
        Ok(Self { runner, requirements: requirements? })
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
