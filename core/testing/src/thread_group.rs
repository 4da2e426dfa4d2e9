//! A process group whose processes are threads or tasks of one program.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use isr_api::{ComponentError, ProcessGroup};

/// One member of a [`ProcessGroup`] in memory, for tests of loops and policies that run as several processes.
///
/// A member that [fails](ProcessGroup::fail) makes the calls of all others fail, as a real group would end their
/// processes.
pub struct ThreadGroup {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    size: usize,
    /// Messages of the exchange that is under way, by rank.
    arriving: Vec<Option<Vec<u8>>>,
    /// Messages of the last complete exchange.
    complete: Arc<Vec<Vec<u8>>>,
    /// Number of complete exchanges.
    exchanges: u64,
    counters: HashMap<String, u64>,
    /// Why a member failed.
    failure: Option<String>,
}

impl ThreadGroup {
    /// Creates a group; returns its members by rank.
    pub fn members(size: usize) -> Vec<Arc<dyn ProcessGroup>> {
        let state = State {
            size,
            arriving: vec![None; size],
            complete: Arc::default(),
            exchanges: 0,
            counters: HashMap::new(),
            failure: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let member = |rank| Arc::new(Self { rank, shared: Arc::clone(&shared) }) as Arc<dyn ProcessGroup>;
        (0..size).map(member).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the group a message, and waits for those of all.
    fn exchange(&self, bytes: &[u8]) -> Result<Arc<Vec<Vec<u8>>>, ComponentError> {
        let mut state = self.state();
        let number = state.exchanges;
        state.arriving[self.rank] = Some(bytes.to_vec());
        if state.arriving.iter().all(Option::is_some) {
            let size = state.size;
            let arrived = std::mem::replace(&mut state.arriving, vec![None; size]);
            state.complete = Arc::new(arrived.into_iter().flatten().collect());
            state.exchanges += 1;
            self.shared.changed.notify_all();
        }
        while state.exchanges == number {
            if let Some(cause) = &state.failure {
                return Err(ComponentError::failed(format!("another process stopped: {cause}")));
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Arc::clone(&state.complete))
    }
}

impl ProcessGroup for ThreadGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.state().size
    }

    fn barrier(&self) -> Result<(), ComponentError> {
        self.exchange(&[]).map(drop)
    }

    fn broadcast(&self, bytes: &[u8], root: usize) -> Result<Vec<u8>, ComponentError> {
        Ok(self.exchange(if self.rank == root { bytes } else { &[] })?[root].clone())
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, ComponentError> {
        Ok(self.exchange(bytes)?.to_vec())
    }

    fn next(&self, counter: &str) -> Result<u64, ComponentError> {
        let mut state = self.state();
        if let Some(cause) = &state.failure {
            return Err(ComponentError::failed(format!("another process stopped: {cause}")));
        }
        let next = state.counters.entry(counter.to_owned()).or_default();
        *next += 1;
        Ok(*next - 1)
    }

    fn fail(&self, cause: &str) {
        let mut state = self.state();
        state.failure.get_or_insert_with(|| format!("process {}: {cause}", self.rank));
        self.shared.changed.notify_all();
    }
}
