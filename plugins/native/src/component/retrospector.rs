//! Retrospectors.

use async_trait::async_trait;
use isr_api::{ComponentError, FrozenPolicy, RetrospectionCase, Retrospector};
use isr_plugin::wire::{self, TextMessage};

use crate::answers::Answers;
use crate::runner::Runner;

/// A retrospector of a library.
pub(crate) struct NativeRetrospector(pub(crate) Runner);

#[async_trait]
impl Retrospector for NativeRetrospector {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        let answers = Answers::policy(self.0.name(), policy, &case.scene);
        let reply = self.0.call("describe", wire::describe_message(case), answers).await?;
        Ok(self.0.read::<TextMessage>("describe", &reply)?.text)
    }
}
