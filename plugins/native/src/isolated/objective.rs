//! The objective of a training step, which isr evaluates.

use std::sync::Arc;

use isr_api::messages::{BatchMessage, ValueMessage, check_lengths};
use isr_api::{ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements};

use super::case;
use super::pipe::Pipe;

/// The objective of one call: log-probs go out as a question, and the loss's derivatives come back as its answer.
pub(super) struct PipeObjective {
    pub(super) pipe: Arc<Pipe>,
    pub(super) call: u64,
    pub(super) requirements: Requirements,
}

impl PreferenceObjective for PipeObjective {
    fn requirements(&self) -> Requirements {
        self.requirements.clone()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let message = BatchMessage::inline(batch).map_err(ComponentError::failed)?;
        let mut value: ValueMessage =
            self.pipe.ask_blocking(self.call, "evaluate", case::write(message)?)?;
        let gradients = value.gradients.take().unwrap_or_default();
        check_lengths(&gradients, batch).map_err(ComponentError::failed)?;
        Ok(value.with_gradients(gradients))
    }
}
