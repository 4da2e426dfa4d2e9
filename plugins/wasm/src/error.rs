//! Errors of WebAssembly plugins.

use std::time::Duration;

use isr_api::ComponentError;
use isr_config::plugin::PluginError;

use crate::bindings::types::{Failure, Fault};

/// An error of a file, a sandbox or a call in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The file is not a usable plugin.
    #[error("{0}")]
    Module(String),
    /// It imports a function that the host does not define.
    #[error("it imports what is not given: {0}; it may import `isr:plugin/host` and WASI 0.2")]
    Import(String),
    /// It used up its instructions.
    #[error("it used up its fuel of {0}; raise `fuel` if the work needs it")]
    Fuel(u64),
    /// It used up its memory.
    #[error("it wanted more than {0} MiB of memory; raise `memory_mb` if the work needs it")]
    Memory(usize),
    /// It ran for too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Time(Duration),
    /// It trapped.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It refused its settings.
    #[error("{0}")]
    Settings(String),
    /// It reported an error: for this case, or for good.
    #[error("{message}")]
    Reported {
        /// Whether this case is at fault.
        bad_input: bool,
        /// What it said.
        message: String,
    },
    /// The batch does not fit its requirements.
    #[error("{0}")]
    Batch(String),
    /// What it returned cannot be used.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
    /// The call was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl From<Failure> for SandboxError {
    fn from(Failure { fault, message }: Failure) -> Self {
        Self::Reported { bad_input: matches!(fault, Fault::BadInput), message }
    }
}

impl SandboxError {
    /// The error of a call on a case: bad input, unless the plugin reported that it cannot go on. A trap or a limit
    /// depends on the case alone, since each call has a fresh instance.
    pub(crate) fn of_case(self, plugin: &str, call: &'static str) -> ComponentError {
        match self {
            Self::Cancelled => ComponentError::Cancelled,
            Self::Reported { bad_input: false, .. } => self.of_call(plugin, call),
            fault => PluginError::new(plugin, call, fault.to_string()).bad_input(),
        }
    }

    /// The error of a call that no sample is to blame for.
    pub(crate) fn of_call(self, plugin: &str, call: &'static str) -> ComponentError {
        PluginError::new(plugin, call, self.to_string()).failed()
    }
}
