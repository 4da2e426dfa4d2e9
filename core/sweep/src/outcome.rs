//! Outcome of running a sweep.

use std::collections::BTreeMap;

/// Failed runs and stopped arms of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Failed runs by index in [`Plan::members`](crate::Plan::members): exit status and the end of the log.
    pub failed: BTreeMap<usize, String>,
    /// Arms stopped early, by index in [`Plan::arms`](crate::Plan::arms): the iteration after which they stopped.
    pub stopped: BTreeMap<usize, u32>,
}
