//! Shortage of device memory: what is given up before a request fails, and what its error says.

use super::Engine;
use crate::error::{Result, TorchError};

impl Engine {
    /// Does a request's work; where memory is short, once more without the prefix cache.
    pub(super) fn within_memory<T>(
        &mut self,
        work: &'static str,
        attempt: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let outcome = match attempt(self) {
            Err(error) if self.gives_up_cache(&error) => attempt(self),
            outcome => outcome,
        };
        outcome.map_err(|error| self.advised(error, work))
    }

    /// Drops the prefix cache after an error that more memory may avoid; returns whether it held something.
    pub(super) fn gives_up_cache(&mut self, error: &TorchError) -> bool {
        let held = self.prefixes.bytes();
        if held == 0 || !error.is_out_of_memory() {
            return false;
        }
        tracing::warn!(%error, held_mib = held >> 20, "memory is short: the prefix cache is dropped");
        self.prefixes.clear();
        true
    }

    /// Adds to an error about memory what to change.
    pub(super) fn advised(&self, error: TorchError, work: &'static str) -> TorchError {
        error.with_remedy(work, || {
            format!(
                "lower policy.batch (it is {}), policy.prefix_cache_mb (it is {}) or the number of frames",
                self.batch,
                self.prefixes.limit() >> 20
            )
        })
    }
}

/// Reading of a prompt, and scoring.
pub(super) const READING: &str = "while reading a prompt";
/// Decoding.
pub(super) const DECODING: &str = "while decoding";
