//! One computation at a time on the CPU. libtorch gives each calling thread its own workers for every core, so
//! an encoder and an engine at work together would take the cores from each other at every operation.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tch::Device;

struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    busy: bool,
    /// Encoders that wait. They go first: the engine then finds more requests to answer together.
    encoders: usize,
}

static TURNS: Turns =
    Turns { state: Mutex::new(State { busy: false, encoders: 0 }), changed: Condvar::new() };

/// Who wants to compute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Encoder,
    Engine,
}

/// The right to compute, until it is dropped.
pub(crate) struct Turn(());

impl Drop for Turn {
    fn drop(&mut self) {
        TURNS.lock().busy = false;
        TURNS.changed.notify_all();
    }
}

/// Waits for the right to compute. Other devices than the CPU order their work themselves.
pub(crate) fn take(device: Device, who: Who) -> Option<Turn> {
    if device != Device::Cpu {
        return None;
    }
    let mut state = TURNS.lock();
    state.encoders += usize::from(who == Who::Encoder);
    while state.busy || (who == Who::Engine && state.encoders > 0) {
        state = TURNS.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.encoders -= usize::from(who == Who::Encoder);
    state.busy = true;
    Some(Turn(()))
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_encoder_that_waits_goes_before_an_engine_that_waited_longer() {
        let first = take(Device::Cpu, Who::Engine);
        let (order, done) = channel();
        let wait = |who: Who, name: &'static str| {
            let order = order.clone();
            std::thread::spawn(move || {
                let _turn = take(Device::Cpu, who);
                order.send(name).unwrap();
            })
        };
        let engine = wait(Who::Engine, "engine");
        let encoder = wait(Who::Encoder, "encoder");
        while TURNS.lock().encoders == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(done.try_recv().is_err());
        drop(first);
        encoder.join().unwrap();
        engine.join().unwrap();
        assert_eq!(done.try_iter().collect::<Vec<_>>(), ["encoder", "engine"]);
    }
}
