//! Admission of a bounded number of requests.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::openai::error::ApiError;
use crate::openai::metrics::Metrics;

/// Counter of completions in flight, with a limit.
pub(crate) struct Queue {
    places: Arc<Semaphore>,
    size: usize,
    metrics: Arc<Metrics>,
}

/// Admission of one request. Dropping it frees the place and records the duration.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    since: Instant,
    metrics: Arc<Metrics>,
}

impl Queue {
    pub(crate) fn new(size: usize, metrics: Arc<Metrics>) -> Self {
        Self { places: Arc::new(Semaphore::new(size)), size, metrics }
    }

    /// Admits a request, or fails with 429.
    pub(crate) fn enter(&self) -> Result<Place, ApiError> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::queue_full(self.size))?;
        Ok(Place { _permit: permit, since: Instant::now(), metrics: Arc::clone(&self.metrics) })
    }

    /// Completions in flight.
    pub(crate) fn under_way(&self) -> usize {
        self.size - self.places.available_permits()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.took(self.since.elapsed());
    }
}
