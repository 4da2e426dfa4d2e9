//! The clock of a call: its time, which stands still while the policy works, and its cancellation.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a call that waits looks at its clock.
const LOOK: Duration = Duration::from_millis(20);

/// Time of one call.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<Times>);

#[derive(Debug)]
struct Times {
    deadline: Instant,
    /// Since when the policy works for the call.
    paused: Option<Instant>,
    cancelled: bool,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn new(limit: Duration) -> Self {
        Self(Mutex::new(Times { deadline: Instant::now() + limit, paused: None, cancelled: false }))
    }

    /// Starts again, with the whole limit.
    pub(crate) fn restart(&self, limit: Duration) {
        self.times().deadline = Instant::now() + limit;
    }

    /// Ends the call: nobody waits for it.
    pub(crate) fn cancel(&self) {
        self.times().cancelled = true;
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.times().cancelled
    }

    /// Whether the call has no time left, or is not wanted any more.
    pub(crate) fn is_over(&self) -> bool {
        let times = self.times();
        times.cancelled || times.paused.is_none() && Instant::now() > times.deadline
    }

    /// Waits until the call is over: whatever it waits for, it waits no longer.
    pub(crate) async fn over(&self) {
        while !self.is_over() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops the clock until the guard is dropped.
    pub(crate) fn pause(&self) -> impl Drop + use<'_> {
        self.times().paused = Some(Instant::now());
        Paused(self)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Paused<'c>(&'c Clock);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let mut times = self.0.times();
        if let Some(since) = times.paused.take() {
            times.deadline += since.elapsed();
        }
    }
}
