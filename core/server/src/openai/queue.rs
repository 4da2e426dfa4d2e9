//! Lets a bounded number of requests in.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::openai::error::ApiError;
use crate::openai::metrics::Metrics;

/// The requests under way.
pub(crate) struct Queue {
    places: Arc<Semaphore>,
    size: usize,
    metrics: Arc<Metrics>,
}

/// A place in the queue, held until a reply is complete or its client has gone.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    since: Instant,
    metrics: Arc<Metrics>,
}

impl Queue {
    pub(crate) fn new(size: usize, metrics: Arc<Metrics>) -> Self {
        Self { places: Arc::new(Semaphore::new(size)), size, metrics }
    }

    /// A place, where one is free.
    pub(crate) fn enter(&self) -> Result<Place, ApiError> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::queue_full(self.size))?;
        Ok(Place { _permit: permit, since: Instant::now(), metrics: Arc::clone(&self.metrics) })
    }

    /// Places taken.
    pub(crate) fn under_way(&self) -> usize {
        self.size - self.places.available_permits()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.took(self.since.elapsed());
    }
}
