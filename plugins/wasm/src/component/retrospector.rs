//! A retrospector in the sandbox.

use async_trait::async_trait;
use isr_api::{ComponentError, FrozenPolicy, RetrospectionCase, Retrospector};

use super::{Shared, on_case};
use crate::bindings::retrospector::RetrospectorPluginPre;
use crate::convert;
use crate::error::SandboxError;
use crate::sandbox::State;

/// A [`Retrospector`] that a component exports.
pub(crate) struct WasmRetrospector {
    pub(crate) shared: Shared,
    pub(crate) plugin: RetrospectorPluginPre<State>,
}

#[async_trait]
impl Retrospector for WasmRetrospector {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        let (plugin, settings) = (self.plugin.clone(), self.shared.settings.clone());
        let asked = convert::retrospection_case(case);
        let outcome = on_case(&self.shared, &case.scene, policy, case.seed, move |call| {
            call.run(async |store| {
                let instance = plugin.instantiate_async(&mut *store).await?;
                let configured =
                    instance.isr_plugin_plugin().call_configure(&mut *store, &settings).await?;
                if let Err(reason) = configured {
                    return Ok(Err(SandboxError::Settings(reason)));
                }
                let retrospector = instance.isr_plugin_retrospector();
                let described = retrospector.call_describe_video(&mut *store, &asked).await?;
                Ok(described.map_err(SandboxError::from))
            })?
        });
        outcome.await.map_err(|fault| fault.of_case(&self.shared.name, "describe"))
    }
}
