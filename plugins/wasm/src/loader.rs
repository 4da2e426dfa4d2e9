//! Loads plugin files that end in `.wasm`.

use std::path::Path;
use std::sync::Arc;

use isr_api::Cause;
use isr_config::plugin::{Plugin, PluginFile, PluginLoader};

use crate::plugin::WasmPlugin;
use crate::sandbox::Limits;

/// Runs WebAssembly components, and core modules that it makes components of.
pub struct WasmLoader;

impl PluginLoader for WasmLoader {
    fn what(&self) -> &'static str {
        "WebAssembly plugin"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["wasm"]
    }

    fn options(&self) -> &'static [&'static str] {
        &["call_s", "start_s", "memory_mb", "fuel", "read"]
    }

    fn load(&self, path: &Path, options: &PluginFile) -> Result<Arc<dyn Plugin>, Cause> {
        Ok(Arc::new(WasmPlugin::load(path, Limits::from(options))?))
    }
}

isr_config::register_loader!(&WasmLoader);
