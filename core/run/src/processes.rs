//! The processes that run one loop: who leads, and how they agree.
//!
//! Every process runs the same code on the same run directory. The first one, the leader, writes; what depends on the
//! directory or on a component's answer is decided by the leader and sent to the others.

use std::ops::Range;
use std::sync::Arc;

use isr_api::{ComponentError, Error, ProcessGroup, SingleProcess};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::guard::{component_error, join_error, unless_cancelled};

/// A process group, seen from the loop.
#[derive(Clone)]
pub(crate) struct Processes {
    group: Arc<dyn ProcessGroup>,
    cancel: CancellationToken,
}

impl Processes {
    /// A single process.
    pub(crate) fn single(cancel: CancellationToken) -> Self {
        Self { group: Arc::new(SingleProcess::default()), cancel }
    }

    pub(crate) fn of(group: Arc<dyn ProcessGroup>, cancel: CancellationToken) -> Self {
        Self { group, cancel }
    }

    /// Index of this process.
    pub(crate) fn rank(&self) -> usize {
        self.group.rank()
    }

    /// Number of processes.
    pub(crate) fn count(&self) -> usize {
        self.group.world_size().max(1)
    }

    /// Whether this process writes the run directory.
    pub(crate) fn leads(&self) -> bool {
        self.group.rank() == 0
    }

    pub(crate) fn are_several(&self) -> bool {
        self.count() > 1
    }

    /// Returns which of `count` things in a row fall to this process.
    pub(crate) fn share(&self, count: usize) -> Range<usize> {
        let (rank, processes) = (self.rank(), self.count());
        count * rank / processes..count * (rank + 1) / processes
    }

    /// Tells the other processes that this one stops.
    pub(crate) fn fail(&self, error: &Error) {
        if self.are_several() {
            self.group.fail(&error.to_string());
        }
    }

    /// Waits until all processes are here.
    pub(crate) async fn meet(&self) -> Result<(), Error> {
        match self.are_several() {
            true => self.call("meet", |group| group.barrier()).await,
            false => Ok(()),
        }
    }

    /// Returns the leader's value, in all processes; the others' values are ignored.
    pub(crate) async fn agree<T: Serialize + DeserializeOwned>(&self, own: Option<T>) -> Result<T, Error> {
        match own {
            Some(value) if !self.are_several() => Ok(value),
            own => {
                let bytes = own.as_ref().map_or_else(|| Ok(Vec::new()), to_bytes)?;
                let bytes = self.call("broadcast", move |group| group.broadcast(&bytes, 0)).await?;
                match own {
                    Some(value) => Ok(value),
                    None => of_bytes(&bytes),
                }
            }
        }
    }

    /// Returns the leader's value; the other processes do not compute it.
    pub(crate) async fn by_leader<T: Serialize + DeserializeOwned>(
        &self,
        compute: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let own = if self.leads() { Some(compute.await?) } else { None };
        self.agree(own).await
    }

    /// Returns the value of each process, by rank.
    pub(crate) async fn gather<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<Vec<T>, Error> {
        if !self.are_several() {
            return Ok(vec![own]);
        }
        let bytes = to_bytes(&own)?;
        let all = self.call("gather", move |group| group.all_gather(&bytes)).await?;
        all.iter().map(|bytes| of_bytes(bytes)).collect()
    }

    /// Returns the next number of a counter that the processes share.
    pub(crate) async fn next(&self, counter: &str) -> Result<u64, Error> {
        let counter = counter.to_owned();
        match self.are_several() {
            true => self.call("count", move |group| group.next(&counter)).await,
            false => self.group.next(&counter).map_err(|source| failed("count", source)),
        }
    }

    /// Runs a call that may block for as long as another process takes.
    async fn call<T: Send + 'static>(
        &self,
        action: &str,
        call: impl FnOnce(&dyn ProcessGroup) -> Result<T, ComponentError> + Send + 'static,
    ) -> Result<T, Error> {
        let group = Arc::clone(&self.group);
        let task = tokio::task::spawn_blocking(move || call(group.as_ref()));
        let outcome = unless_cancelled(&self.cancel, task).await?;
        outcome.unwrap_or_else(|error| Err(join_error(error))).map_err(|source| failed(action, source))
    }
}

fn failed(action: &str, source: ComponentError) -> Error {
    component_error("process group", action, source)
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| failed("send", ComponentError::failed(error)))
}

fn of_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = format!(
            "another process sent what this one does not understand ({error}); use one version of isr"
        );
        failed("receive", ComponentError::failed(text))
    })
}
