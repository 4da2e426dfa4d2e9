//! What a process may use.

use std::time::Duration;

/// Limits of a plugin's process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Longest time until it has said hello, and until a component is configured.
    pub start: Duration,
    /// Longest silence: time in which calls are open and it neither answers nor asks. Time in which it
    /// waits for an answer to what it asks does not count.
    pub call: Duration,
    /// How often it is started again, after it ended or was ended, without an answer in between.
    pub restarts: u32,
    /// Most calls in one message.
    pub batch: usize,
    /// Longest line that it may write, in bytes.
    pub line_bytes: usize,
    /// Most questions that it may ask in one call.
    pub asks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { start: minute, call: minute, restarts: 3, batch: 32, line_bytes: 64 << 20, asks: 1000 }
    }
}
