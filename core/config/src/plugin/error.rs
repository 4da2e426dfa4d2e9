//! What a plugin did wrong.

use isr_api::ComponentError;

/// An error that names the plugin and the call.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{plugin}`, {call}: {message}")]
pub struct PluginError {
    /// The component's name, or the file where no component is known.
    pub plugin: String,
    /// The call that went wrong: `judge`, `describe`, `evaluate`, `construct`, ...
    pub call: &'static str,
    /// What went wrong.
    pub message: String,
}

impl PluginError {
    /// An error of a call.
    pub fn new(plugin: impl Into<String>, call: &'static str, message: impl Into<String>) -> Self {
        Self { plugin: plugin.into(), call, message: message.into() }
    }

    /// This input is at fault: the sample is quarantined.
    pub fn bad_input(self) -> ComponentError {
        ComponentError::bad_input(self)
    }

    /// The plugin is at fault: the run stops.
    pub fn failed(self) -> ComponentError {
        ComponentError::failed(self)
    }

    /// The plugin panicked: the run stops.
    pub fn panicked(self) -> ComponentError {
        ComponentError::Panicked(format!("{} (plugin `{}`, {})", self.message, self.plugin, self.call))
    }
}
