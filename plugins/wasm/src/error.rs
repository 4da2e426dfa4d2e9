//! What goes wrong with a WebAssembly plugin.

use std::time::Duration;

use isr_api::ComponentError;
use isr_config::plugin::PluginError;

use crate::bindings::types::{Failure, Fault as Whose};

/// The cause of an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file is no plugin that can be used.
    #[error("{0}")]
    Module(String),
    /// It imports something that nobody gives.
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
    /// It ended itself.
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
    /// The batch is none that it can be given.
    #[error("{0}")]
    Batch(String),
    /// What it returned cannot be used.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
    /// The call is no longer wanted.
    #[error("cancelled")]
    Cancelled,
}

impl From<Failure> for Fault {
    fn from(Failure { fault, message }: Failure) -> Self {
        Self::Reported { bad_input: matches!(fault, Whose::BadInput), message }
    }
}

impl Fault {
    /// As the error of a call on a case: the sample is quarantined unless the plugin itself says that it
    /// cannot go on. A trap or a limit depends on the case alone, since each has an instance of its own.
    pub(crate) fn of_case(self, plugin: &str, call: &'static str) -> ComponentError {
        match self {
            Self::Cancelled => ComponentError::Cancelled,
            Self::Reported { bad_input: false, .. } => self.of_call(plugin, call),
            fault => PluginError::new(plugin, call, fault.to_string()).bad_input(),
        }
    }

    /// As the error of a call that no sample is to blame for.
    pub(crate) fn of_call(self, plugin: &str, call: &'static str) -> ComponentError {
        PluginError::new(plugin, call, self.to_string()).failed()
    }
}
