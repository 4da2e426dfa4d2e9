//! An objective in a process.

use isr_api::{ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements};
use isr_config::plugin::PluginError;

use crate::error::{Fault, SessionError};
use crate::form;
use crate::session::Session;

/// A [`PreferenceObjective`] on a session whose component is one.
pub struct RemoteObjective {
    name: String,
    session: Session,
    requirements: Requirements,
}

impl RemoteObjective {
    /// Evaluates through a session; `name` stands in errors.
    ///
    /// # Errors
    /// The plugin does not say what it requires.
    pub fn new(name: &str, session: Session) -> Result<Self, SessionError> {
        let value = session.call_blocking("requirements", serde_json::Value::Null)?;
        let requirements = form::requirements(value).map_err(Fault::Unusable)?;
        Ok(Self { name: name.to_owned(), session, requirements })
    }

    fn try_evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, SessionError> {
        batch.check(&self.requirements).map_err(Fault::Batch)?;
        let params = form::batch(batch).map_err(Fault::Batch)?;
        let value = self.session.call_blocking("evaluate", params)?;
        Ok(form::value(value, batch).map_err(Fault::Unusable)?)
    }
}

impl PreferenceObjective for RemoteObjective {
    fn requirements(&self) -> Requirements {
        self.requirements.clone()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        // No sample is to blame for a loss.
        let failed =
            |error: SessionError| PluginError::new(&self.name, "evaluate", error.to_string()).failed();
        self.try_evaluate(batch).map_err(failed)
    }
}
