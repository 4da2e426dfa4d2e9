//! The sandbox: a fresh store for every call.

mod engine;
mod host;
mod limits;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use wasmtime::component::{Component, Linker};
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::error::SandboxError;
pub(crate) use engine::engine;
pub(crate) use limits::Limits;
pub(crate) use state::{CaseContext, State};

/// Limits and context of one call.
pub(crate) struct Call {
    /// The plugin's name in log lines.
    pub(crate) plugin: String,
    /// Limits of the call.
    pub(crate) limits: Arc<Limits>,
    /// What its questions are about; `None` for calls without a case.
    pub(crate) context: Option<CaseContext>,
    /// Seed of its random numbers.
    pub(crate) seed: u64,
    /// Set when the caller is gone.
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Call {
    /// A call without a case.
    pub(crate) fn new(plugin: &str, limits: &Arc<Limits>) -> Self {
        let (plugin, limits) = (plugin.to_owned(), Arc::clone(limits));
        Self { plugin, limits, context: None, seed: 0, cancelled: Arc::default() }
    }

    /// Runs `work` in a fresh store.
    pub(crate) fn run<T>(
        self,
        work: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, SandboxError> {
        let (limits, cancelled) = (Arc::clone(&self.limits), Arc::clone(&self.cancelled));
        let mut store = self.store()?;
        let outcome = work(&mut store);
        store.data().log_output();
        outcome.map_err(|error| fault(&error, &limits, store.data(), &cancelled))
    }

    fn store(self) -> Result<Store<State>, SandboxError> {
        let fuel = self.limits.fuel;
        let mut store = Store::new(engine()?, State::new(self)?);
        store.limiter(|state| state);
        store.set_fuel(fuel).map_err(|error| SandboxError::Module(error.to_string()))?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            if store.data().is_over(Instant::now()) {
                return Err(Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
        Ok(store)
    }
}

/// The error of a failed call.
fn fault(error: &wasmtime::Error, limits: &Limits, state: &State, cancelled: &AtomicBool) -> SandboxError {
    if state.memory_refused() {
        return SandboxError::Memory(limits.memory_mb);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => SandboxError::Fuel(limits.fuel),
        Some(Trap::Interrupt) if cancelled.load(Ordering::Relaxed) => SandboxError::Cancelled,
        Some(Trap::Interrupt) => SandboxError::Time(limits.call),
        Some(trap) => SandboxError::Trap(trap.to_string()),
        None => SandboxError::Trap(format!("{:#}", error.root_cause())),
    }
}

/// A linker with all that a plugin may import.
pub(crate) fn linker() -> Result<Linker<State>, SandboxError> {
    let mut linker = Linker::new(engine()?);
    let added = wasmtime_wasi::p2::add_to_linker_sync(&mut linker).and_then(|()| host::add(&mut linker));
    added.map_err(|error| SandboxError::Module(format!("{error:#}")))?;
    Ok(linker)
}

/// Compiles a component.
pub(crate) fn compile(bytes: &[u8]) -> Result<Component, SandboxError> {
    Component::new(engine()?, bytes)
        .map_err(|error| SandboxError::Module(format!("it cannot be compiled: {:#}", error.root_cause())))
}
