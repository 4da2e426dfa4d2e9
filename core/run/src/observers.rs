//! Delivery of events to observers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isr_api::{Event, Observer};

use crate::guard::panic_message;

/// The observers of a run. One that panics is logged and left out from then on: results do not depend on observers, so
/// none of them stops a run.
pub(crate) struct Observers {
    all: Vec<(Arc<dyn Observer>, AtomicBool)>,
}

impl Observers {
    pub(crate) fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { all: observers.into_iter().map(|observer| (observer, AtomicBool::new(false))).collect() }
    }

    /// Sends an event to all observers.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        for (index, (observer, panicked)) in self.all.iter().enumerate() {
            if panicked.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| observer.observe(event))) {
                panicked.store(true, Ordering::Relaxed);
                let message = panic_message(payload);
                tracing::error!(index, "an observer panicked: {message}; the run goes on without it");
            }
        }
    }

    /// Waits until the observers have handled all events. One that has failed has said so itself.
    pub(crate) async fn flush(&self) {
        for (observer, panicked) in &self.all {
            if !panicked.load(Ordering::Relaxed) {
                let observer = Arc::clone(observer);
                let _ = tokio::task::spawn_blocking(move || drop(observer.flush())).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Counting {
        seen: Mutex<usize>,
        panics: bool,
    }

    impl Observer for Counting {
        fn observe(&self, _: &Event<'_>) {
            *self.seen.lock().unwrap() += 1;
            assert!(!self.panics, "no disk");
        }
    }

    #[test]
    fn an_observer_that_panics_is_left_out_and_the_others_go_on() {
        let faulty = Arc::new(Counting { panics: true, ..Counting::default() });
        let sound = Arc::new(Counting::default());
        let observers = Observers::new(vec![faulty.clone(), sound.clone()]);
        for _ in 0..3 {
            observers.observe(&Event::RunFinished);
        }
        assert_eq!(*sound.seen.lock().unwrap(), 3);
        assert!(faulty.seen.is_poisoned() || *faulty.seen.lock().unwrap() == 1);
    }
}
