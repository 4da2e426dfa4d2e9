//! [`PluginError`].

use isr_api::ComponentError;

/// Error of a call into a plugin. The message names the plugin and the call.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{plugin}`, {call}: {message}")]
pub struct PluginError {
    /// Name of the component; path of the file if no component is known.
    pub plugin: String,
    /// The failed call: `judge`, `describe`, `evaluate`, `construct`, ...
    pub call: &'static str,
    /// The reason.
    pub message: String,
}

impl PluginError {
    /// Creates an error.
    pub fn new(plugin: impl Into<String>, call: &'static str, message: impl Into<String>) -> Self {
        Self { plugin: plugin.into(), call, message: message.into() }
    }

    /// Converts to [`ComponentError::BadInput`]: the sample is quarantined.
    pub fn bad_input(self) -> ComponentError {
        ComponentError::bad_input(self)
    }

    /// Converts to [`ComponentError::Failed`]: the run stops.
    pub fn failed(self) -> ComponentError {
        ComponentError::failed(self)
    }

    /// Converts to [`ComponentError::Panicked`]: the run stops.
    pub fn panicked(self) -> ComponentError {
        ComponentError::Panicked(format!("{} (plugin `{}`, {})", self.message, self.plugin, self.call))
    }
}
