//! A judge in the sandbox.

use async_trait::async_trait;
use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};

use super::{Shared, on_case};
use crate::bindings::judge::JudgePluginPre;
use crate::convert;
use crate::error::SandboxError;
use crate::sandbox::State;

/// A [`Judge`] that a component exports.
pub(crate) struct WasmJudge {
    pub(crate) shared: Shared,
    pub(crate) plugin: JudgePluginPre<State>,
}

#[async_trait]
impl Judge for WasmJudge {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let (plugin, settings) = (self.plugin.clone(), self.shared.settings.clone());
        let asked = convert::judge_case(case);
        let outcome = on_case(&self.shared, &case.scene, policy, case.seed, move |call| {
            call.run(async |store| {
                let instance = plugin.instantiate_async(&mut *store).await?;
                let configured =
                    instance.isr_plugin_plugin().call_configure(&mut *store, &settings).await?;
                if let Err(reason) = configured {
                    return Ok(Err(SandboxError::Settings(reason)));
                }
                let verdict = instance.isr_plugin_judge().call_judge(&mut *store, &asked).await?;
                Ok(verdict.map_err(SandboxError::from))
            })?
        });
        let verdict = outcome.await.map_err(|fault| fault.of_case(&self.shared.name, "judge"))?;
        Ok(convert::verdict(verdict))
    }
}
