//! External plugins: files that a config names, from which a loader creates components.
//!
//! ```toml
//! plugins = ["plugins/brevity.so", { path = "plugins/polite.py", call_s = 20 }]
//!
//! [judge]
//! type = "brevity"   # a name from the manifest of a plugin file
//! ```
//!
//! 1. [`Plugins::load`] selects a [`PluginLoader`] by file extension, loads the [`Plugin`], and checks its
//!    [manifests](isr_api::Manifest): kinds, unique names, schemas.
//! 2. [`Loader`](crate::Loader) treats components of plugins like registered ones: a section that selects one is
//!    checked against its schema, with the same messages.
//! 3. The section deserialises to a config that holds name and settings, and that the plugin builds.
//!
//! This crate opens no library and starts no process. The crates that do register a loader with
//! [`register_loader!`](crate::register_loader).
//!
//! # Trust
//! Return values of plugins are validated at the boundary (`checked/`): probabilities, lengths, shapes, finite
//! numbers. Every error names the plugin and the call ([`PluginError`]).

mod check_schema;
mod checked;
mod current_plugins;
mod error;
mod file;
mod find;
mod loader;
mod manifest;
mod plugin_config;
mod plugins;

pub(crate) use current_plugins::{current_plugins, with_plugins};
pub use error::PluginError;
pub use file::{Isolation, PluginFile};
pub(crate) use find::beside;
pub use loader::{Plugin, PluginLoader, PluginSettings, RegisteredLoader};
pub use manifest::KINDS;
pub(crate) use manifest::{MARK, ManifestSchema};
pub(crate) use plugin_config::{tag, untag};
pub(crate) use plugins::{FOLDERS, folders};
pub use plugins::{LoadedPlugin, Plugins};
