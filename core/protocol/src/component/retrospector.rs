//! A retrospector in a process.

use async_trait::async_trait;
use isr_api::{ComponentError, FrozenPolicy, RetrospectionCase, Retrospector};
use serde_json::Value;

use super::{call_error, unusable};
use crate::form::{self, Asked};
use crate::session::Session;

/// A [`Retrospector`] on a session whose component is one.
pub struct RemoteRetrospector {
    name: String,
    session: Session,
}

impl RemoteRetrospector {
    /// Describes through a session; `name` stands in errors.
    pub fn new(name: &str, session: Session) -> Self {
        Self { name: name.to_owned(), session }
    }
}

#[async_trait]
impl Retrospector for RemoteRetrospector {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        let asked = Asked { scene: &case.scene, policy };
        let value = self.session.call("describe", form::retrospection_case(case), Some(asked)).await;
        match value.map_err(|error| call_error(&self.name, "describe", &error))? {
            Value::String(text) if !text.trim().is_empty() => Ok(text),
            Value::String(_) => {
                Err(unusable(&self.name, "describe", "the description is empty".to_owned()))
            }
            other => Err(unusable(&self.name, "describe", format!("{other} is no text"))),
        }
    }
}
