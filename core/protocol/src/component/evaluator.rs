//! An evaluator in a process.

use async_trait::async_trait;
use isr_api::messages::{AssessMessage, AssessmentMessage};
use isr_api::{Assessment, ComponentError, Evaluator, LabelledSample};
use serde_json::Value;

use super::{call_error, params, unusable};
use crate::keys;
use crate::session::Session;

/// An [`Evaluator`] whose component runs in a [`Session`]'s process.
pub struct RemoteEvaluator {
    name: String,
    session: Session,
    is_costly: bool,
}

impl RemoteEvaluator {
    /// An evaluator on a session; errors carry `name`.
    pub fn new(name: &str, session: Session, is_costly: bool) -> Self {
        Self { name: name.to_owned(), session, is_costly }
    }

    async fn assess(
        &self,
        method: &'static str,
        sample: &LabelledSample,
        text: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        let message = params(&AssessMessage { sample: sample.into(), text: text.to_owned() })?;
        let value = self.session.call(method, message, None).await;
        let value = value.map_err(|error| call_error(&self.name, method, &error))?;
        assessment(value).map_err(|reason| unusable(&self.name, method, reason))
    }
}

#[async_trait]
impl Evaluator for RemoteEvaluator {
    async fn answer(
        &self,
        sample: &LabelledSample,
        answer: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        self.assess("answer", sample, answer).await
    }

    async fn context(
        &self,
        sample: &LabelledSample,
        text: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        self.assess("context", sample, text).await
    }

    fn is_costly(&self) -> bool {
        self.is_costly
    }
}

/// Reads an assessment, or null for none.
fn assessment(value: Value) -> Result<Option<Assessment>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Object(_) => {
            let message: AssessmentMessage = keys::read(value)?;
            Assessment::try_from(message).map(Some).map_err(|error| error.to_string())
        }
        other => Err(format!("{other} is neither null nor an object with `quality` and `metrics`")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_assessment_has_finite_figures_and_no_other_keys() {
        let read = assessment(json!({"quality": 1, "metrics": {"accuracy": 0.5}})).unwrap().unwrap();
        assert_eq!((read.quality, read.metrics["accuracy"]), (1.0, 0.5));
        assert_eq!(assessment(json!({"quality": 0.5})).unwrap().unwrap().metrics.len(), 0);
        assert_eq!(assessment(Value::Null), Ok(None));
        for (value, says) in [
            (json!({"metrics": {}}), "missing field `quality`"),
            (json!({"quality": "NaN"}), "its quality is NaN"),
            (json!({"quality": 1, "metrics": {"a": "inf"}}), "its metric `a` is inf"),
            (json!({"quality": 1, "metrics": {"a": "good"}}), "invalid type: string \"good\""),
            (json!({"quality": 1, "metrics": [1]}), "invalid type: sequence"),
            (json!({"quality": 1, "score": 1}), "unknown field `score`"),
            (json!(0.5), "0.5 is neither null nor an object"),
        ] {
            let refused = assessment(value.clone()).unwrap_err();
            assert!(refused.contains(says), "{value}: {refused}");
        }
    }
}
