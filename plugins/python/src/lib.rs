//! Plugins written in Python: files that end in `.py`, each run in a process of its own.
//!
//! The process speaks the protocol of `isr-protocol`, through the package `isr_plugin` that stands beside
//! this crate's source. The host brings its own copy of the package, so an author needs none, and versions
//! cannot disagree. `docs/plugins-python.md` is the author's guide.

mod loader;
mod package;

pub use isr_protocol::remove_exchange_folders;
pub use loader::PythonLoader;
