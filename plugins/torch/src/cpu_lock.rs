//! Process-wide lock of the CPU: one computation at a time. libtorch gives each calling thread a worker pool of
//! all cores, so an encoder and an engine that ran concurrently would oversubscribe them at every operation.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tch::Device;

use crate::device_clock::{self, Working};

struct Lock {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    busy: bool,
    /// Number of waiting encoders. They have priority: the engine then finds more requests to batch.
    waiting_encoders: usize,
}

static CPU: Lock = Lock::new();

/// Requester of the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requester {
    Encoder,
    Engine,
    /// An engine that reads, writes or hashes weights.
    Files,
}

/// Work under way on a device: the CPU's lock, and the clock of computations.
pub(crate) struct Turn {
    _lock: Option<CpuLock>,
    _working: Option<Working>,
}

/// Guard of the lock, which is released on drop.
struct CpuLock(&'static Lock);

impl Drop for CpuLock {
    fn drop(&mut self) {
        self.0.lock().busy = false;
        self.0.changed.notify_all();
    }
}

/// Begins work on a device. Blocks until the CPU is free if that is the device; others queue their own work. Computations
/// count as work of the device ([`device_clock`]), files do not.
pub(crate) fn acquire(device: Device, requester: Requester) -> Turn {
    let lock = (device == Device::Cpu).then(|| CPU.acquire(requester));
    Turn { _lock: lock, _working: (requester != Requester::Files).then(device_clock::start) }
}

impl Lock {
    const fn new() -> Self {
        Self { state: Mutex::new(State { busy: false, waiting_encoders: 0 }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acquire(&'static self, requester: Requester) -> CpuLock {
        let mut state = self.lock();
        state.waiting_encoders += usize::from(requester == Requester::Encoder);
        while state.busy || (requester != Requester::Encoder && state.waiting_encoders > 0) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting_encoders -= usize::from(requester == Requester::Encoder);
        state.busy = true;
        CpuLock(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_encoder_that_waits_goes_before_an_engine_that_waited_longer() {
        // A lock of its own: concurrent tests use the process-wide one.
        static CPU: Lock = Lock::new();
        let first = CPU.acquire(Requester::Engine);
        let (order, done) = channel();
        let wait = |requester: Requester, name: &'static str| {
            let order = order.clone();
            std::thread::spawn(move || {
                let _lock = CPU.acquire(requester);
                order.send(name).unwrap();
            })
        };
        let engine = wait(Requester::Engine, "engine");
        let encoder = wait(Requester::Encoder, "encoder");
        while CPU.lock().waiting_encoders == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(done.try_recv().is_err());
        drop(first);
        encoder.join().unwrap();
        engine.join().unwrap();
        assert_eq!(done.try_iter().collect::<Vec<_>>(), ["encoder", "engine"]);
    }
}
