//! Log lines of a process, of bounded number and length.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::Level;

use crate::error::SessionErrorKind;

/// Most bytes that a process writes before its hello, on both outputs.
const BEFORE_HELLO: usize = 16 << 20;
/// Log lines that may come at once.
const BURST: f64 = 500.0;
/// Log lines a second after that.
const RATE: f64 = 50.0;
/// Longest log line in characters.
const LONGEST: usize = 2000;

/// Log of a process.
#[derive(Clone)]
pub(super) struct ProcessLog(Arc<State>);

struct State {
    plugin: String,
    has_greeted: AtomicBool,
    written: AtomicUsize,
    lines: Mutex<Lines>,
}

/// Lines that may still be logged.
struct Lines {
    left: f64,
    since: Instant,
    left_out: usize,
}

impl ProcessLog {
    pub(super) fn new(plugin: &str) -> Self {
        let lines = Lines { left: BURST, since: Instant::now(), left_out: 0 };
        Self(Arc::new(State {
            plugin: plugin.to_owned(),
            has_greeted: AtomicBool::new(false),
            written: AtomicUsize::new(0),
            lines: Mutex::new(lines),
        }))
    }

    /// Notes that the process has said hello.
    pub(super) fn greeted(&self) {
        self.0.has_greeted.store(true, Ordering::Relaxed);
    }

    /// The longest line that the process may write now.
    pub(super) fn line_limit(&self, limit: usize) -> usize {
        if self.0.has_greeted.load(Ordering::Relaxed) { limit } else { limit.min(BEFORE_HELLO) }
    }

    /// Counts what the process has written.
    ///
    /// # Errors
    /// It has written too much before its hello.
    pub(super) fn count(&self, bytes: usize) -> Result<(), SessionErrorKind> {
        let written = self.0.written.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if written > BEFORE_HELLO && !self.0.has_greeted.load(Ordering::Relaxed) {
            return Err(SessionErrorKind::Flood { limit: BEFORE_HELLO });
        }
        Ok(())
    }

    /// Logs a line, unless there are too many.
    pub(super) fn line(&self, level: &str, message: &str) {
        let plugin = self.0.plugin.as_str();
        let is_shown = match level {
            "error" => tracing::enabled!(Level::ERROR),
            "warn" => tracing::enabled!(Level::WARN),
            "debug" => tracing::enabled!(Level::DEBUG),
            _ => tracing::enabled!(Level::INFO),
        };
        if !is_shown {
            return;
        }
        let Some(left_out) = self.admit(Instant::now()) else { return };
        if left_out > 0 {
            tracing::warn!(plugin, "{left_out} lines of its log were left out: it writes too many");
        }
        let end = message.char_indices().nth(LONGEST).map_or(message.len(), |(end, _)| end);
        let message = &message[..end];
        match level {
            "error" => tracing::error!(plugin, "{message}"),
            "warn" => tracing::warn!(plugin, "{message}"),
            "debug" => tracing::debug!(plugin, "{message}"),
            _ => tracing::info!(plugin, "{message}"),
        }
    }

    /// Number of lines that were left out before this one; `None` where this one is left out, too.
    fn admit(&self, now: Instant) -> Option<usize> {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.left = (lines.left + now.duration_since(lines.since).as_secs_f64() * RATE).min(BURST);
        lines.since = now;
        // After a flood a second of quiet is due, so that what was left out is told once a second at most.
        if lines.left < 1.0 || lines.left_out > 0 && lines.left < RATE {
            lines.left_out += 1;
            return None;
        }
        lines.left -= 1.0;
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_left_out_and_counted() {
        let (log, start) = (ProcessLog::new("p"), Instant::now());
        let logged = (0..1000).filter(|_| log.admit(start).is_some()).count();
        assert_eq!(logged, BURST as usize);
        assert_eq!(log.admit(start + Duration::from_millis(500)), None);
        assert_eq!(log.admit(start + Duration::from_secs(1)), Some(501));
        assert_eq!(log.admit(start + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn bytes_are_bounded_until_the_hello() {
        let log = ProcessLog::new("p");
        assert_eq!((log.line_limit(10), log.line_limit(usize::MAX)), (10, BEFORE_HELLO));
        log.count(BEFORE_HELLO).unwrap();
        assert!(log.count(1).unwrap_err().to_string().contains("before its hello"));
        log.greeted();
        log.count(1 << 40).unwrap();
        assert_eq!(log.line_limit(usize::MAX), usize::MAX);
    }
}
