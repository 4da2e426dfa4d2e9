//! The [`ProcessGroup`] trait: processes that run one loop together.

use crate::error::ComponentError;

/// A group of processes that run one loop together, each on its own device, with one run directory.
///
/// # Contract
/// - Each process calls [`barrier`](Self::barrier), [`broadcast`](Self::broadcast) and
///   [`all_gather`](Self::all_gather) in the same order. They block until all processes have called, so async code
///   calls them from a blocking thread.
/// - Messages are bytes; their meaning is the caller's. A policy that trains in parallel exchanges its tensors by means
///   of its own.
/// - Nobody waits for a process that is gone: after a time limit the implementation ends the others, with the rank and
///   host of the lost process, and the cause where it is known.
///
/// # Errors
/// [`ComponentError::Failed`] if the group cannot be reached.
pub trait ProcessGroup: Send + Sync {
    /// Returns the index of this process, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of processes.
    fn world_size(&self) -> usize;

    /// Waits until all processes are here.
    fn barrier(&self) -> Result<(), ComponentError>;

    /// Returns the bytes of process `root`. The other processes' `bytes` are ignored.
    fn broadcast(&self, bytes: &[u8], root: usize) -> Result<Vec<u8>, ComponentError>;

    /// Returns the bytes of each process, by rank. Their lengths may differ.
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, ComponentError>;

    /// Returns the next number of a named counter that all processes share: 0, 1, 2, ... Each number goes to one
    /// process. Does not wait for the others.
    fn next(&self, counter: &str) -> Result<u64, ComponentError>;

    /// Tells the other processes that this one stops because of `cause`, so that they stop too. Best effort.
    fn fail(&self, cause: &str);
}

/// The group of a single process, the default.
#[derive(Debug, Default)]
pub struct SingleProcess {
    counters: std::sync::Mutex<std::collections::HashMap<String, u64>>,
}

impl ProcessGroup for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn barrier(&self) -> Result<(), ComponentError> {
        Ok(())
    }

    fn broadcast(&self, bytes: &[u8], _root: usize) -> Result<Vec<u8>, ComponentError> {
        Ok(bytes.to_vec())
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, ComponentError> {
        Ok(vec![bytes.to_vec()])
    }

    fn next(&self, counter: &str) -> Result<u64, ComponentError> {
        let mut counters = self.counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = counters.entry(counter.to_owned()).or_default();
        *next += 1;
        Ok(*next - 1)
    }

    fn fail(&self, _cause: &str) {}
}
