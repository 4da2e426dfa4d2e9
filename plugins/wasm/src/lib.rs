//! Plugins compiled to WebAssembly: files that end in `.wasm`, for authors whom nobody has to trust.
//!
//! | part | what it is | where |
//! |---|---|---|
//! | interface | what a plugin imports and exports | `wit/isr.wit` |
//! | module | a file made a component: core modules are wrapped | `module.rs` |
//! | sandbox | memory, fuel, time, folders; what the host does for a plugin | `sandbox/` |
//! | components | judge, retrospector and objective | `component/` |
//!
//! Every call gets a fresh instance with limits of its own: nothing that a case does reaches the next, and
//! results do not depend on the order of calls. A plugin reads no file and reaches no network but for the
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

pub use error::Fault;
pub use loader::WasmLoader;
