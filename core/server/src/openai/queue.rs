//! Admission of a bounded number of requests, shared among addresses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::http::{Answering, Origin, Peer};
use crate::openai::error::ApiError;
use crate::openai::metrics::Metrics;

/// Counter of completions in flight, with a limit, and a limit for each address.
pub(crate) struct Queue {
    taken: Mutex<HashMap<Origin, usize>>,
    size: usize,
    metrics: Arc<Metrics>,
}

/// Admission of one request. Dropping it frees the place and records the duration.
pub(crate) struct Place {
    queue: Arc<Queue>,
    origin: Origin,
    since: Instant,
    /// Keeps the connection open.
    _answering: Option<Answering>,
}

impl Queue {
    pub(crate) fn new(size: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), size, metrics })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Origin, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places that one address may take: three quarters, so that other addresses find some.
    fn share(&self) -> usize {
        (self.size * 3).div_ceil(4)
    }

    /// Fails with 429 where a request of `origin` would find no place now.
    pub(crate) fn check(&self, origin: Origin) -> Result<(), ApiError> {
        self.check_taken(&self.taken(), origin)
    }

    fn check_taken(&self, taken: &HashMap<Origin, usize>, origin: Origin) -> Result<(), ApiError> {
        if taken.values().sum::<usize>() >= self.size {
            return Err(ApiError::queue_full(self.size));
        }
        match taken.get(&origin).is_some_and(|own| *own >= self.share()) {
            true => Err(ApiError::share_full(self.share())),
            false => Ok(()),
        }
    }

    /// Admits a request, or fails with 429. `peer` is its connection, if it came through one.
    pub(crate) fn enter(self: &Arc<Self>, peer: Option<Peer>) -> Result<Place, ApiError> {
        let origin = peer.as_ref().map_or(Origin::INSIDE, Peer::origin);
        let mut taken = self.taken();
        self.check_taken(&taken, origin)?;
        *taken.entry(origin).or_default() += 1;
        drop(taken);
        Ok(Place {
            queue: Arc::clone(self),
            origin,
            since: Instant::now(),
            _answering: peer.map(Peer::answering),
        })
    }

    /// Completions in flight.
    pub(crate) fn under_way(&self) -> usize {
        self.taken().values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.queue.taken();
        if let Some(own) = taken.get_mut(&self.origin) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.origin);
            }
        }
        drop(taken);
        self.queue.metrics.took(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Connections;

    #[test]
    fn one_address_leaves_places_for_others() {
        let queue = Queue::new(4, Arc::default());
        let connections = Connections::new(9);
        let open = |last| connections.admit([10, 0, 0, last].into()).unwrap();
        let (greedy, guest) = (open(1), open(2));
        let held: Vec<_> = (0..3).map(|_| queue.enter(Some(greedy.peer())).unwrap()).collect();
        let refused = queue.enter(Some(greedy.peer())).err().unwrap();
        assert_eq!(refused.status, 429);
        assert!(
            refused.message.starts_with("3 requests of your address are under way"),
            "{}",
            refused.message
        );
        let _guest = queue.enter(Some(guest.peer())).unwrap();
        let full = queue.enter(Some(guest.peer())).err().unwrap();
        assert!(full.message.starts_with("4 requests are under way"), "{}", full.message);
        assert!(queue.check(guest.peer().origin()).is_err());
        drop(held);
        assert_eq!(queue.under_way(), 1);
        queue.check(greedy.peer().origin()).unwrap();
    }
}
