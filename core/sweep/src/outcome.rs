//! Outcome of running a sweep.

use std::collections::BTreeMap;

/// What became of the runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Runs that failed, by their place among the plan's members: how, and the end of their logs.
    pub failed: BTreeMap<usize, String>,
    /// Arms that were stopped early, and after which iteration.
    pub stopped: BTreeMap<usize, u32>,
}
