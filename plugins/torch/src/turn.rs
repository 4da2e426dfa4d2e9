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

static TURNS: Turns = Turns::new();

/// Who wants to compute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Encoder,
    Engine,
}

/// The right to compute, until it is dropped.
pub(crate) struct Turn(&'static Turns);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().busy = false;
        self.0.changed.notify_all();
    }
}

/// Waits for the right to compute. Other devices than the CPU order their work themselves.
pub(crate) fn take(device: Device, who: Who) -> Option<Turn> {
    (device == Device::Cpu).then(|| TURNS.take(who))
}

impl Turns {
    const fn new() -> Self {
        Self { state: Mutex::new(State { busy: false, encoders: 0 }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&'static self, who: Who) -> Turn {
        let mut state = self.lock();
        state.encoders += usize::from(who == Who::Encoder);
        while state.busy || (who == Who::Engine && state.encoders > 0) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.encoders -= usize::from(who == Who::Encoder);
        state.busy = true;
        Turn(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_encoder_that_waits_goes_before_an_engine_that_waited_longer() {
        // Others than those of tests that run beside this one.
        static TURNS: Turns = Turns::new();
        let first = TURNS.take(Who::Engine);
        let (order, done) = channel();
        let wait = |who: Who, name: &'static str| {
            let order = order.clone();
            std::thread::spawn(move || {
                let _turn = TURNS.take(who);
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
