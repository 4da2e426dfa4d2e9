//! Plugins compiled to WebAssembly (`.wasm`), which run in a sandbox and need not be trusted.
//!
//! | part | what it is | where |
//! |---|---|---|
//! | interface | a plugin's imports and exports; tested against [`isr_api::messages`] | `wit/isr.wit` |
//! | module | conversion of a file to a component: core modules are wrapped | `module.rs` |
//! | sandbox | memory, fuel, time, folders; the host's functions | `sandbox/` |
//! | components | judge, retrospector and objective | `component/` |
//!
//! Every call gets a fresh instance with limits of its own, so that calls share no state and
//! results do not depend on their order. A plugin reads no file and reaches no network but for the
//! folders that the config grants; its random numbers derive from the case's seed.
//! `docs/plugins-wasm.md` is the author's guide.

mod bindings;
mod component;
mod convert;
mod error;
mod loader;
mod module;
mod plugin;
mod sandbox;

pub use error::SandboxError;
pub use loader::WasmLoader;
