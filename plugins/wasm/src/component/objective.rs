//! An objective in the sandbox.

use std::thread;

use isr_api::{ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements};
use wasmtime::Store;

use super::Shared;
use crate::bindings::objective::{ObjectivePlugin, ObjectivePluginPre};
use crate::convert;
use crate::error::Fault;
use crate::sandbox::{Call, State};

/// A [`PreferenceObjective`] that a component exports.
pub(crate) struct WasmObjective {
    shared: Shared,
    plugin: ObjectivePluginPre<State>,
    requirements: Requirements,
}

impl WasmObjective {
    /// Asks what it requires.
    pub(crate) fn new(shared: Shared, plugin: ObjectivePluginPre<State>) -> Result<Self, Fault> {
        let form = call(&shared, &plugin, |instance, store| {
            Ok(Ok(instance.isr_plugin_objective().call_needs(store)?))
        })?;
        let requirements = convert::requirements(form).map_err(Fault::Unusable)?;
        Ok(Self { shared, plugin, requirements })
    }

    fn try_evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, Fault> {
        batch.check(&self.requirements).map_err(Fault::Batch)?;
        let views = convert::views(batch).map_err(Fault::Batch)?;
        let value = call(&self.shared, &self.plugin, |instance, store| {
            let value = instance.isr_plugin_objective().call_evaluate(store, &views)?;
            Ok(value.map_err(Fault::from))
        })?;
        let wanted: Vec<_> = batch.views.iter().map(|view| view.policy.len()).collect();
        let got: Vec<_> = value.gradients.iter().map(Vec::len).collect();
        if got != wanted {
            let text = format!("its gradients have {got:?} numbers for {wanted:?} log-probs");
            return Err(Fault::Unusable(text));
        }
        Ok(convert::value(value))
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
    plugin: &ObjectivePluginPre<State>,
    work: impl FnOnce(&ObjectivePlugin, &mut Store<State>) -> wasmtime::Result<Result<T, Fault>> + Send,
) -> Result<T, Fault> {
    let call = Call::new(&shared.name, &shared.limits);
    let run = move || {
        call.run(|store| {
            let instance = plugin.instantiate(&mut *store)?;
            match instance.isr_plugin_plugin().call_configure(&mut *store, &shared.settings)? {
                Ok(()) => work(&instance, store),
                Err(reason) => Ok(Err(Fault::Settings(reason))),
            }
        })?
    };
    // A trainer may call from a thread of an async runtime, where WASI must not wait.
    let done = thread::scope(|scope| scope.spawn(run).join());
    done.unwrap_or_else(|_| Err(Fault::Trap("the host panicked".to_owned())))
}
