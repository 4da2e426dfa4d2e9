//! Rate limiting: concurrency, requests per minute, and pauses that the server asks for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::error::ChatError;

/// Rate limiter of a server.
#[derive(Debug)]
pub(crate) struct Pace {
    under_way: Arc<Semaphore>,
    gap: Duration,
    clock: Mutex<Clock>,
}

/// Next free slot, and end of the pause that the server asked for.
#[derive(Debug, Default)]
struct Clock {
    next: Option<Instant>,
    quiet_until: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(concurrency: usize, requests_per_minute: Option<f64>) -> Self {
        let gap = requests_per_minute.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(60.0 / rate));
        Self { under_way: Arc::new(Semaphore::new(concurrency)), gap, clock: Mutex::default() }
    }

    /// Waits for a slot. The request counts as concurrent until the permit is dropped.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, ChatError> {
        let permit = Arc::clone(&self.under_way).acquire_owned().await.map_err(|_| ChatError::Closed)?;
        sleep_until(self.departure()).await;
        // Another reply may have asked for a pause in the meantime.
        while let Some(end) = self.quiet_until() {
            sleep_until(end).await;
        }
        Ok(permit)
    }

    /// Pauses all requests.
    pub(crate) fn keep_quiet(&self, wait: Duration) {
        let end = Instant::now() + wait;
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.quiet_until = Some(clock.quiet_until.map_or(end, |other| other.max(end)));
    }

    /// Reserves the next free slot.
    fn departure(&self) -> Instant {
        let now = Instant::now();
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let at = clock.next.map_or(now, |next| next.max(now));
        clock.next = Some(at + self.gap);
        at
    }

    fn quiet_until(&self) -> Option<Instant> {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.quiet_until.filter(|&end| end > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn departures_keep_their_distance() {
        let pace = Pace::new(10, Some(60.0));
        let start = Instant::now();
        for _ in 0..4 {
            drop(pace.turn().await.unwrap());
        }
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_under_way_than_allowed() {
        let pace = Pace::new(2, None);
        let (first, _second) = (pace.turn().await.unwrap(), pace.turn().await.unwrap());
        assert!(tokio::time::timeout(Duration::from_secs(9), pace.turn()).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_secs(9), pace.turn()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_holds_those_back_that_were_already_waiting() {
        let pace = Arc::new(Pace::new(10, Some(60.0)));
        drop(pace.turn().await.unwrap());
        let start = Instant::now();
        let waiting = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move { pace.turn().await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        pace.keep_quiet(Duration::from_secs(30));
        pace.keep_quiet(Duration::from_secs(3));
        waiting.await.unwrap().unwrap();
        assert!(start.elapsed() >= Duration::from_secs(30), "{:?}", start.elapsed());
    }
}
