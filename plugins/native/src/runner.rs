//! Blocking calls of a component, on threads of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use isr_api::{ComponentError, ObjectiveBatch, ObjectiveValue};
use isr_config::plugin::PluginError;
use isr_plugin::host::Instance;
use isr_plugin::wire::{Message, RemoteError};
use tokio::runtime::Handle;

use crate::answers::Answers;
use crate::watch::Watched;

/// A component of a library, with its name and the time limit of its calls.
pub(crate) struct Runner {
    name: Arc<str>,
    instance: Arc<Instance>,
    limit: Duration,
}

/// Sets its flag when it is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Runner {
    pub(crate) fn new(name: &str, instance: Instance, limit: Duration) -> Self {
        Self { name: name.into(), instance: Arc::new(instance), limit }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes a call on a blocking thread. If the future is dropped, the plugin sees that the call is cancelled, and
    /// its result is discarded.
    pub(crate) async fn call(
        &self,
        method: &'static str,
        request: Result<Message, RemoteError>,
        answers: Answers,
    ) -> Result<Message, ComponentError> {
        let request = request.map_err(RemoteError::into_component)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        let (instance, name, limit) = (Arc::clone(&self.instance), Arc::clone(&self.name), self.limit);
        let runtime = Handle::current();
        let task = runtime.clone().spawn_blocking(move || {
            let watched = Watched::begin(&name, method, limit);
            let host = answers.of_call(Some(runtime), cancelled, watched.clock());
            instance.call(method, &request, host)
        });
        match task.await {
            Ok(reply) => reply.map_err(|error| self.failed(method, error)),
            Err(error) => Err(self.failed(method, RemoteError::new("panicked", error.to_string()))),
        }
    }

    /// Makes a short call on this thread, without a policy to ask.
    pub(crate) fn call_now(
        &self,
        method: &'static str,
        request: &Message,
    ) -> Result<Message, ComponentError> {
        let watched = Watched::begin(&self.name, method, self.limit);
        let host = Answers::nobody(&self.name).of_call(None, Arc::default(), watched.clock());
        self.instance.call(method, request, host).map_err(|error| self.failed(method, error))
    }

    /// Evaluates an objective on this thread.
    pub(crate) fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let _watched = Watched::begin(&self.name, "evaluate", self.limit);
        self.instance.evaluate(batch).map_err(|error| self.failed("evaluate", error))
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// JSON of another shape, as an error of the call.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        reply: &Message,
    ) -> Result<T, ComponentError> {
        reply.read().map_err(|error| self.failed(method, error))
    }

    /// An error of the library as the component's.
    pub(crate) fn failed(&self, call: &'static str, error: RemoteError) -> ComponentError {
        let failed = PluginError::new(self.name.as_ref(), call, error.to_string());
        match error.code.as_str() {
            "bad_input" => failed.bad_input(),
            "panicked" => failed.panicked(),
            "cancelled" => ComponentError::Cancelled,
            _ => failed.failed(),
        }
    }
}
