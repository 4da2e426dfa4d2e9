//! The failure of a process, as the others are told of it.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::c10d::Store;
use crate::error::{Result, TorchError};

/// Key of the first failure.
const FAILED: &str = "failed";
/// Key of the number of processes that have read it.
const SEEN: &str = "failed/seen";
/// How long the process that keeps the store waits until the others have read of a failure.
const LINGER: Duration = Duration::from_secs(2);

/// Process as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Name of its machine.
    pub(super) host: String,
    /// Number of the process on that machine.
    pub(super) process: u32,
    /// Address of its machine towards the store.
    pub(super) address: String,
    /// Number of its machine's GPUs, where NCCL can be used.
    pub(super) gpus: Option<usize>,
}

/// Process that stops a group, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// Index of the process.
    pub(super) rank: usize,
    /// Its machine, and number there.
    pub(super) host: String,
    pub(super) process: u32,
    /// Why, as a clause.
    pub(super) cause: String,
    /// Index of the process that found it.
    pub(super) told_by: usize,
}

impl Failure {
    /// Creates the failure of a member.
    pub(super) fn of(rank: usize, member: &Member, cause: impl Into<String>, told_by: usize) -> Self {
        Self { rank, host: member.host.clone(), process: member.process, cause: cause.into(), told_by }
    }

    /// Writes a failure into the store, unless there is one, and returns the one that is there.
    pub(super) fn publish(&self, store: &Store) -> Result<Self> {
        let text = serde_json::to_string(self).map_err(|error| TorchError::Group(error.to_string()))?;
        store.set_first(FAILED, &text)?;
        Ok(Self::published(store)?.unwrap_or_else(|| self.clone()))
    }

    /// Reads the failure from the store, if there is one.
    pub(super) fn published(store: &Store) -> Result<Option<Self>> {
        if !store.has(&[FAILED])? {
            return Ok(None);
        }
        let text = store.get(&[FAILED])?.pop().unwrap_or_default();
        let unreadable =
            |error| TorchError::Group(format!("another process failed with {text:?} ({error})"));
        serde_json::from_str(&text).map(Some).map_err(unreadable)
    }

    /// Lets a failure reach all processes: counts this one, or, where it keeps the store, waits for `others` to have read
    /// it, two seconds at most.
    pub(super) fn spread(&self, store: &Store, keeps_store: bool, others: usize) -> Result<()> {
        if !keeps_store {
            store.add(SEEN, 1)?;
            return Ok(());
        }
        let begin = Instant::now();
        while begin.elapsed() < LINGER && store.add(SEEN, 0)? < others as i64 {
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, host, process, cause, .. } = self;
        write!(f, "rank {rank} on host `{host}` (process {process}) {cause}")
    }
}
