//! Process-wide clock of the seconds in which an engine or an encoder was computing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

struct Clock(Mutex<State>);

struct State {
    /// Computations under way.
    working: usize,
    /// Time at which the first of those began.
    since: Option<Instant>,
    /// Duration of what ended before.
    total: Duration,
    /// Duration of waits for other processes within computations.
    waited: Duration,
}

static CLOCK: Clock = Clock::new();

/// Computation under way, which ends on drop.
pub(crate) struct Working(&'static Clock);

/// Wait for other processes, which ends on drop.
pub(crate) struct Waiting {
    clock: &'static Clock,
    started: Instant,
}

/// Starts a computation.
pub(crate) fn start() -> Working {
    CLOCK.start()
}

/// Starts a wait for other processes in the middle of a computation, which is not counted.
pub(crate) fn wait() -> Waiting {
    CLOCK.wait()
}

/// Returns the seconds in which at least one computation was under way, without waits for other processes.
pub(crate) fn seconds() -> f64 {
    CLOCK.seconds()
}

impl Clock {
    const fn new() -> Self {
        let (total, waited) = (Duration::ZERO, Duration::ZERO);
        Self(Mutex::new(State { working: 0, since: None, total, waited }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&'static self) -> Working {
        let mut state = self.lock();
        state.working += 1;
        state.since.get_or_insert_with(Instant::now);
        Working(self)
    }

    fn wait(&'static self) -> Waiting {
        Waiting { clock: self, started: Instant::now() }
    }

    fn seconds(&self) -> f64 {
        let state = self.lock();
        let all = state.total + state.since.map_or(Duration::ZERO, |since| since.elapsed());
        all.saturating_sub(state.waited).as_secs_f64()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.working -= 1;
        if state.working == 0
            && let Some(since) = state.since.take()
        {
            state.total += since.elapsed();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.clock.lock();
        // Nothing else counts as a computation.
        if state.working > 0 {
            state.waited += self.started.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computations_at_the_same_time_count_once_and_idle_time_does_not() {
        // A clock of its own: concurrent tests use the process-wide one.
        static CLOCK: Clock = Clock::new();
        let pause = || std::thread::sleep(Duration::from_millis(20));
        let started = Instant::now();
        let (one, other) = (CLOCK.start(), CLOCK.start());
        pause();
        drop(one);
        pause();
        assert!(CLOCK.seconds() >= 0.04, "while one is under way");
        drop(other);
        let busy = CLOCK.seconds();
        assert!(busy >= 0.04 && busy <= started.elapsed().as_secs_f64(), "{busy}");
        pause();
        assert_eq!(CLOCK.seconds(), busy);
        drop(CLOCK.start());
        assert!(CLOCK.seconds() >= busy);
        let (before, computing) = (CLOCK.seconds(), CLOCK.start());
        let waiting = CLOCK.wait();
        pause();
        let waited = waiting.started.elapsed();
        drop(waiting);
        drop(computing);
        assert!(CLOCK.seconds() - before < started.elapsed().as_secs_f64() && waited.as_secs_f64() >= 0.02);
        let counted = CLOCK.seconds();
        drop(CLOCK.wait());
        assert_eq!(CLOCK.seconds(), counted, "a wait outside computations");
    }
}
