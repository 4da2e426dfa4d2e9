//! An objective in a process.

use isr_api::messages::{BatchMessage, RequirementsMessage, ValueMessage};
use isr_api::{ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements};
use isr_config::plugin::PluginError;
use serde_json::Value;

use crate::error::{SessionError, SessionErrorKind};
use crate::keys;
use crate::session::Session;

/// A [`PreferenceObjective`] whose component runs in a [`Session`]'s process.
pub struct RemoteObjective {
    name: String,
    session: Session,
    requirements: Requirements,
}

impl RemoteObjective {
    /// An objective on a session; errors carry `name`.
    ///
    /// # Errors
    /// The plugin does not answer `requirements`, or with requirements that cannot be used.
    pub fn new(name: &str, session: Session) -> Result<Self, SessionError> {
        let value = session.call_blocking("requirements", Value::Null)?;
        let requirements = requirements(value).map_err(SessionErrorKind::Unusable)?;
        Ok(Self { name: name.to_owned(), session, requirements })
    }

    fn try_evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, SessionError> {
        batch.check(&self.requirements).map_err(SessionErrorKind::Batch)?;
        let params = params(batch).map_err(SessionErrorKind::Batch)?;
        let reply = self.session.call_blocking("evaluate", params)?;
        Ok(value(reply, batch).map_err(SessionErrorKind::Unusable)?)
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

fn requirements(value: Value) -> Result<Requirements, String> {
    let message: RequirementsMessage = keys::read(value)?;
    Requirements::try_from(message).map_err(|error| error.to_string())
}

fn params(batch: &ObjectiveBatch) -> Result<Value, String> {
    let message = BatchMessage::inline(batch).map_err(|error| error.to_string())?;
    serde_json::to_value(message).map_err(|error| error.to_string())
}

fn value(value: Value, batch: &ObjectiveBatch) -> Result<ObjectiveValue, String> {
    let message: ValueMessage = keys::read(value)?;
    message.into_value(batch).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use isr_api::{View, ViewLogProbs};
    use serde_json::json;

    use super::*;

    fn pairs() -> ObjectiveBatch {
        let of =
            |view| ViewLogProbs { view, policy: vec![-1.5, -2.0], reference: vec![], lengths: vec![2, 3] };
        ObjectiveBatch { views: vec![of(View::Chosen), of(View::Rejected)] }
    }

    #[test]
    fn a_batch_is_written_view_by_view() {
        let written = params(&pairs()).unwrap();
        let view = |name| json!({"view": name, "policy": [-1.5, -2.0], "reference": [], "lengths": [2, 3]});
        assert_eq!(written, json!({"views": [view("chosen"), view("rejected")]}));
        let mut broken = pairs();
        broken.views[0].policy[1] = f64::NAN;
        assert_eq!(params(&broken).unwrap_err(), "the log-probs of Chosen have the number NaN");
    }

    #[test]
    fn a_value_has_the_lengths_of_the_batch_and_finite_numbers() {
        let read = |gradients: Value| value(json!({"loss": 1.0, "gradients": gradients}), &pairs());
        assert!(read(json!([[0, 0.5], [1, 2]])).is_ok());
        assert_eq!(
            read(json!([[0, 0.5], [1]])).unwrap_err(),
            "its gradients have [2, 1] numbers for [2, 2] log-probs"
        );
        assert!(read(json!([[0, 0.5]])).is_err());
        assert!(read(json!([[0, null], [1, 2]])).is_err());
        let nan = json!({"loss": "NaN", "gradients": [[0, 0.5], [1, 2]]});
        assert_eq!(value(nan, &pairs()).unwrap_err(), "its value has the number NaN");
        assert_eq!(value(json!({"loss": 1.0}), &pairs()).unwrap_err(), "missing field `gradients`");
    }

    #[test]
    fn requirements_name_each_view_once() {
        let read = |views: Value| {
            requirements(json!({"views": views, "granularity": "per_token", "reference": false}))
        };
        assert_eq!(read(json!(["rejected", "chosen"])).unwrap().views, [View::Rejected, View::Chosen]);
        let all = View::ALL.map(View::name);
        assert_eq!(read(json!(all)).unwrap().views, View::ALL);
        assert!(read(json!([])).is_err());
        assert!(read(json!(["chosen", "chosen"])).is_err());
        assert!(read(json!(["best"])).unwrap_err().contains("best"));
        assert!(requirements(json!({"views": ["chosen"], "reference": false})).is_err());
    }
}
