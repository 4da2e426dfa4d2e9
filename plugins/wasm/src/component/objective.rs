//! An objective in the sandbox.

use isr_api::messages::{RequirementsMessage, check_lengths};
use isr_api::{ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements};
use wasmtime::Store;

use super::Shared;
use crate::bindings::objective::ObjectivePluginPre;
use crate::bindings::objective_by_name::ObjectiveByNamePluginPre;
use crate::convert;
use crate::error::SandboxError;
use crate::sandbox::{Call, State};

/// The interface by which a component exports its objective.
#[derive(Clone)]
pub(crate) enum ObjectiveExport {
    /// `objective`: the views `chosen` and `rejected`, as an enum.
    ByView(ObjectivePluginPre<State>),
    /// `objective-by-name`: all views, as texts.
    ByName(ObjectiveByNamePluginPre<State>),
}

/// Outcome of a call: an error of wasmtime, an error of the plugin, or a value.
type Outcome<T> = wasmtime::Result<Result<T, SandboxError>>;

impl ObjectiveExport {
    async fn needs(&self, store: &mut Store<State>, settings: &str) -> Outcome<RequirementsMessage> {
        let configured = match self {
            Self::ByView(plugin) => {
                let instance = plugin.instantiate_async(&mut *store).await?;
                match instance.isr_plugin_plugin().call_configure(&mut *store, settings).await? {
                    Ok(()) => {
                        Ok(convert::requirements(instance.isr_plugin_objective().call_needs(store).await?))
                    }
                    Err(reason) => Err(reason),
                }
            }
            Self::ByName(plugin) => {
                let instance = plugin.instantiate_async(&mut *store).await?;
                match instance.isr_plugin_plugin().call_configure(&mut *store, settings).await? {
                    Ok(()) => {
                        let required = instance.isr_plugin_objective_by_name().call_needs(store).await?;
                        Ok(convert::named_requirements(required))
                    }
                    Err(reason) => Err(reason),
                }
            }
        };
        Ok(configured.map_err(SandboxError::Settings))
    }

    async fn evaluate(
        &self,
        store: &mut Store<State>,
        settings: &str,
        batch: &ObjectiveBatch,
    ) -> Outcome<ObjectiveValue> {
        match self {
            Self::ByView(plugin) => {
                let views = match convert::views(batch) {
                    Ok(views) => views,
                    Err(reason) => return Ok(Err(SandboxError::Batch(reason))),
                };
                let instance = plugin.instantiate_async(&mut *store).await?;
                if let Err(reason) =
                    instance.isr_plugin_plugin().call_configure(&mut *store, settings).await?
                {
                    return Ok(Err(SandboxError::Settings(reason)));
                }
                let value = instance.isr_plugin_objective().call_evaluate(store, &views).await?;
                Ok(value.map(convert::value).map_err(SandboxError::from))
            }
            Self::ByName(plugin) => {
                let views = convert::named_views(batch);
                let instance = plugin.instantiate_async(&mut *store).await?;
                if let Err(reason) =
                    instance.isr_plugin_plugin().call_configure(&mut *store, settings).await?
                {
                    return Ok(Err(SandboxError::Settings(reason)));
                }
                let value = instance.isr_plugin_objective_by_name().call_evaluate(store, &views).await?;
                Ok(value.map(convert::named_value).map_err(SandboxError::from))
            }
        }
    }
}

/// A [`PreferenceObjective`] that a component exports.
pub(crate) struct WasmObjective {
    shared: Shared,
    export: ObjectiveExport,
    requirements: Requirements,
}

impl WasmObjective {
    /// An objective whose requirements are asked for once.
    pub(crate) fn new(shared: Shared, export: ObjectiveExport) -> Result<Self, SandboxError> {
        let required = call(&shared, async |store| export.needs(store, &shared.settings).await)?;
        let unusable = |error: isr_api::messages::MessageError| SandboxError::Unusable(error.to_string());
        let requirements = required.try_into().map_err(unusable)?;
        Ok(Self { shared, export, requirements })
    }

    fn try_evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, SandboxError> {
        batch.check(&self.requirements).map_err(SandboxError::Batch)?;
        let settings = &self.shared.settings;
        let value = call(&self.shared, async |store| self.export.evaluate(store, settings, batch).await)?;
        check_lengths(&value.gradients, batch)
            .map_err(|error| SandboxError::Unusable(error.to_string()))?;
        Ok(value)
    }
}

impl PreferenceObjective for WasmObjective {
    fn requirements(&self) -> Requirements {
        self.requirements.clone()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        self.try_evaluate(batch).map_err(|fault| fault.of_call(&self.shared.name, "evaluate"))
    }
}

fn call<T: Send>(
    shared: &Shared,
    work: impl AsyncFnOnce(&mut Store<State>) -> Outcome<T> + Send,
) -> Result<T, SandboxError> {
    Call::new(&shared.name, &shared.limits).run_apart(work)?
}
