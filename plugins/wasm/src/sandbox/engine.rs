//! The compiler and its clock, one for all plugins.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine};

use crate::error::SandboxError;

/// How often running code looks at the clock.
const TICK: Duration = Duration::from_millis(10);

/// The engine, whose epoch advances every [`TICK`].
pub(crate) fn engine() -> Result<&'static Engine, SandboxError> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true).epoch_interruption(true).wasm_component_model(true);
        let engine = Engine::new(&config).map_err(|error| format!("{error:#}"))?;
        let clock = engine.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(TICK);
                clock.increment_epoch();
            }
        });
        Ok(engine)
    });
    engine.as_ref().map_err(|reason| SandboxError::Module(format!("WebAssembly cannot run here: {reason}")))
}
