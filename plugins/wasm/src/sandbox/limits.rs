//! Resource limits of calls.

use std::path::PathBuf;
use std::time::Duration;

use isr_config::plugin::PluginFile;

/// Limits of the calls of a plugin file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Longest time of a call without what it waits for the policy.
    pub(crate) call: Duration,
    /// Longest time of a call while it is loaded.
    pub(crate) start: Duration,
    /// Most memory of an instance in MiB.
    pub(crate) memory_mb: usize,
    /// Most instructions of a call, roughly.
    pub(crate) fuel: u64,
    /// Folders that it may read, under their own paths.
    pub(crate) read: Vec<PathBuf>,
}

impl From<&PluginFile> for Limits {
    fn from(file: &PluginFile) -> Self {
        let memory_mb = file.memory_mb.unwrap_or(256);
        Self {
            call: file.call_limit(),
            start: file.start_limit(),
            memory_mb: usize::try_from(memory_mb).unwrap_or(usize::MAX >> 20),
            fuel: file.fuel.unwrap_or(10_000_000_000),
            read: file.read.clone(),
        }
    }
}
