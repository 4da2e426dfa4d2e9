//! A retrospector in a process.

use async_trait::async_trait;
use isr_api::messages::{DescribeMessage, VideoInfo};
use isr_api::{ComponentError, FrozenPolicy, RetrospectionCase, Retrospector};
use serde_json::Value;

use super::{call_error, params, unusable};
use crate::questions::CaseContext;
use crate::session::Session;

/// A [`Retrospector`] whose component runs in a [`Session`]'s process.
pub struct RemoteRetrospector {
    name: String,
    session: Session,
}

impl RemoteRetrospector {
    /// A retrospector on a session; errors carry `name`.
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
        let context = CaseContext { video: &case.scene, policy };
        let message = params(&DescribeMessage::new(case, VideoInfo::from(&case.scene)))?;
        let value = self.session.call("describe", message, Some(context)).await;
        match value.map_err(|error| call_error(&self.name, "describe", &error))? {
            Value::String(text) if !text.trim().is_empty() => Ok(text),
            Value::String(_) => {
                Err(unusable(&self.name, "describe", "the description is empty".to_owned()))
            }
            other => Err(unusable(&self.name, "describe", format!("{other} is no text"))),
        }
    }
}
