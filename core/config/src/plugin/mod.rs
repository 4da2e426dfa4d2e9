//! Plugins from outside: files that a config names, and that a loader turns into components.
//!
//! ```toml
//! plugins = ["plugins/brevity.so", { path = "plugins/polite.py", call_s = 20 }]
//!
//! [judge]
//! type = "brevity"   # a name that the file's manifest gives
//! ```
//!
//! 1. [`Plugins::load`] asks the [`PluginLoader`] of a file's ending for a [`Plugin`], and checks its
//!    [`Manifest`]s: kinds, names that are free, schemas.
//! 2. While [`Loader`](crate::Loader) checks the config, those stand beside what is registered: a
//!    section that names one is checked by its schema, with the same messages.
//! 3. The section is then read as a config that keeps name and settings, and that the plugin builds.
//!
//! This crate opens no library and starts no process: loaders are declared with
//! [`register_loader!`](crate::register_loader) by the crates that do.
//!
//! # Trust
//! What comes from a plugin is checked where it comes in (`checked.rs`): probabilities, lengths, shapes,
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
