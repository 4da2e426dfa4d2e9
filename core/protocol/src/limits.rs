//! Resource limits of a plugin's process.

use std::time::Duration;

use isr_api::messages::QuestionLimits;

/// Limits of a plugin's process and of the queues to and from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Longest time until it has greeted, and until a component is configured. Default 60 s; a config sets
    /// `start_s`.
    pub start: Duration,
    /// Longest silence: time in which calls are open and it neither answers nor asks. Time in which it
    /// waits for an answer to a question does not count. Default 60 s; a config sets `call_s`.
    pub call: Duration,
    /// Number of restarts without an answer in between. Default 3; a config sets `restarts`.
    pub restarts: u32,
    /// Most calls in one message. Default 32.
    pub batch: usize,
    /// Longest line that it may write, in bytes. Default 64 MiB.
    pub line_bytes: usize,
    /// Most messages that wait for it to read its input. A process beyond that is ended. Default 1,024.
    pub unread: usize,
    /// Limits of its questions.
    pub questions: QuestionLimits,
}

impl Default for Limits {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        let (start, call, questions) = (minute, minute, QuestionLimits::DEFAULT);
        Self { start, call, restarts: 3, batch: 32, line_bytes: 64 << 20, unread: 1024, questions }
    }
}
