//! Retrospectors.

use async_trait::async_trait;
use isr_api::{ComponentError, FrozenPolicy, RetrospectionCase, Retrospector};
use isr_plugin::wire::{DescribeForm, Message, Packing, TextForm};

use crate::answers::Answers;
use crate::runner::Runner;

pub(crate) struct NativeRetrospector(pub(crate) Runner);

#[async_trait]
impl Retrospector for NativeRetrospector {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        let mut packing = Packing::default();
        let scene = packing.scene(&case.scene, false);
        let form = DescribeForm { scene, previous: case.previous.clone(), seed: case.seed };
        let answers = Answers::policy(self.0.name(), policy, &case.scene);
        let reply = self.0.call("describe", Message::new(&form, packing.blobs), answers).await?;
        Ok(self.0.read::<TextForm>("describe", &reply)?.text)
    }
}
