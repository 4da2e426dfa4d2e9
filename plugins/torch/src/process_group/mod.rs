//! Processes that run one loop together, by PyTorch's c10d: its store, and its groups gloo and NCCL.
//!
//! [`Rendezvous`] reads from the environment where they meet, [`join`] makes the [`C10dGroup`], which the loop takes as
//! [`isr_api::ProcessGroup`], and training as `Collectives`. `watchdog` notices who is gone. `c10d.cpp`, bound by `c10d`,
//! calls libtorch.

mod c10d;
mod collectives;
mod failure;
mod group;
mod join;
mod pulse;
mod rendezvous;
mod watchdog;

#[cfg(test)]
#[path = "../../tests/support/processes.rs"]
mod processes;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) use collectives::Collectives;
pub use group::C10dGroup;
pub use join::join;
pub use rendezvous::Rendezvous;

use crate::error::TorchError;

/// What [`join`] calls once, on a thread of its own, with rank, host and cause, when the group has lost a process. Calls
/// that wait for the group return after it has: one that ends the process decides how.
pub type OnLost = Box<dyn FnOnce(String) + Send>;

/// Library that moves tensors of GPUs between processes; those of CPUs are moved by gloo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// [`Nccl`](Self::Nccl) where all processes have it and a GPU each, else [`Gloo`](Self::Gloo).
    #[default]
    Auto,
    /// gloo, over TCP; tensors of GPUs go through the host's memory.
    Gloo,
    /// NCCL, for tensors of GPUs.
    Nccl,
}

/// Settings of a group.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time after which a process without a sign of life is lost, at least a second.
    pub limit: Duration,
    /// Time after which processes that have not arrived are an error, at least a second.
    pub arrival: Duration,
    /// Library that moves tensors.
    pub backend: Backend,
}

impl Default for Settings {
    fn default() -> Self {
        Self { limit: Duration::from_secs(60), arrival: Duration::from_secs(300), backend: Backend::Auto }
    }
}

/// The group of this process.
static CURRENT: OnceLock<Arc<C10dGroup>> = OnceLock::new();

/// Returns the group that this process has joined, if any.
pub fn current() -> Option<Arc<C10dGroup>> {
    CURRENT.get().cloned()
}

/// Returns the group of this process for tensors, if any.
pub(crate) fn collectives() -> Option<Arc<dyn Collectives>> {
    let group = current().filter(|group| group.place().world_size > 1);
    group.map(|group| group as Arc<dyn Collectives>)
}

/// Returns libtorch's text of an error, one line.
fn reason(error: &TorchError) -> String {
    let text = match error {
        TorchError::Tensor(tch::TchError::Torch(text)) => text.clone(),
        other => other.to_string(),
    };
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    line.to_owned()
}
