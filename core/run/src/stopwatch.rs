//! Wall-clock time of a stage, and how much of it the policy's device had work.

use std::time::Instant;

use isr_api::Policy;

/// Measures from its creation on.
pub(crate) struct Stopwatch<'a> {
    policy: &'a dyn Policy,
    started: Instant,
    /// The policy's busy seconds at the start.
    busy: Option<f64>,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn start(policy: &'a dyn Policy) -> Self {
        Self { policy, started: Instant::now(), busy: policy.busy_seconds() }
    }

    /// Returns wall-clock seconds, and the seconds in which the device had work, if they are measured.
    pub(crate) fn seconds(&self) -> (f64, Option<f64>) {
        let now = self.policy.busy_seconds();
        let busy = now.zip(self.busy).map(|(now, then)| (now - then).max(0.0));
        (self.started.elapsed().as_secs_f64(), busy)
    }
}
