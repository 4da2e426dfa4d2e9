//! The sandbox: a fresh store for every call.

mod clock;
mod compile;
mod engine;
mod host;
mod limits;
mod room;
mod state;

use std::sync::{Arc, OnceLock};
use std::thread;

use tokio::runtime::Runtime;
use wasmtime::component::Linker;
use wasmtime::{FrameInfo, Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::error::SandboxError;
pub(crate) use clock::Clock;
pub(crate) use compile::compile;
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
    /// Its time; it starts when the call runs.
    pub(crate) clock: Arc<Clock>,
}

impl Call {
    /// A call without a case.
    pub(crate) fn new(plugin: &str, limits: &Arc<Limits>) -> Self {
        let (plugin, limits) = (plugin.to_owned(), Arc::clone(limits));
        let clock = Arc::new(Clock::new(limits.call));
        Self { plugin, limits, context: None, seed: 0, clock }
    }

    /// Runs `work` in a fresh store, on a thread that may block. Code that runs is ended by fuel and epochs, code that
    /// waits, as in `poll`, by being dropped.
    pub(crate) fn run<T>(
        self,
        work: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, SandboxError> {
        let (limits, clock) = (Arc::clone(&self.limits), Arc::clone(&self.clock));
        clock.restart(limits.call);
        let mut store = self.store()?;
        let outcome = runtime()?.block_on(async {
            tokio::select! {
                biased;
                outcome = work(&mut store) => outcome,
                () = clock.over() => Err(Trap::Interrupt.into()),
            }
        });
        store.data().log_output();
        outcome.map_err(|error| fault(&error, &limits, store.data(), &clock))
    }

    /// Runs `work` as [`run`](Self::run) does, on a thread of its own: the caller may be a thread of an async runtime,
    /// which must not block.
    pub(crate) fn run_apart<T: Send>(
        self,
        work: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<T> + Send,
    ) -> Result<T, SandboxError> {
        let done = thread::scope(|scope| scope.spawn(move || self.run(work)).join());
        done.unwrap_or_else(|_| Err(SandboxError::Trap("the host panicked".to_owned())))
    }

    fn store(self) -> Result<Store<State>, SandboxError> {
        let fuel = self.limits.fuel;
        let mut store = Store::new(engine()?, State::new(self)?);
        store.limiter(|state| &mut state.room);
        store.set_fuel(fuel).map_err(|error| SandboxError::Module(error.to_string()))?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            if store.data().clock.is_over() {
                return Err(Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
        Ok(store)
    }
}

/// The runtime of what sandboxes wait for.
fn runtime() -> Result<&'static Runtime, SandboxError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .thread_name("wasm")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    runtime.as_ref().map_err(|reason| SandboxError::Module(format!("no runtime can be started: {reason}")))
}

/// The error of a failed call.
fn fault(error: &wasmtime::Error, limits: &Limits, state: &State, clock: &Clock) -> SandboxError {
    if state.room.refused() {
        return SandboxError::Memory(limits.memory_mb);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => SandboxError::Fuel(limits.fuel),
        Some(Trap::Interrupt) if clock.is_cancelled() => SandboxError::Cancelled,
        Some(Trap::Interrupt) => SandboxError::Time(limits.call),
        Some(trap) => SandboxError::Trap(format!("{trap}{}", place(error))),
        None => SandboxError::Trap(format!("{:#}{}", error.root_cause(), place(error))),
    }
}

/// The functions in which a trap happened, innermost first.
fn place(error: &wasmtime::Error) -> String {
    let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
    let name = |frame: &FrameInfo| match frame.func_name() {
        Some(name) => format!("`{}`", name.chars().take(80).collect::<String>()),
        None => format!("function {}", frame.func_index()),
    };
    match frames.iter().take(4).map(name).collect::<Vec<_>>() {
        none if none.is_empty() => String::new(),
        names => format!(", in {}", names.join(", called by ")),
    }
}

/// A linker with all that a plugin may import.
pub(crate) fn linker() -> Result<Linker<State>, SandboxError> {
    let mut linker = Linker::new(engine()?);
    let added = wasmtime_wasi::p2::add_to_linker_async(&mut linker).and_then(|()| host::add(&mut linker));
    added.map_err(|error| SandboxError::Module(format!("{error:#}")))?;
    Ok(linker)
}
