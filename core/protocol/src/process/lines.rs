//! The lines of a process, none of them longer than a limit.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::Heard;
use crate::error::Fault;
use crate::message::FromPlugin;

/// Lines of stderr that are kept.
const KEPT: usize = 12;
/// Bytes of such a line.
const STDERR_LINE: u64 = 2000;
/// Characters of a line that is shown in a message.
const SHOWN: usize = 120;

/// Hears messages until the output ends, or is none.
pub(super) fn hear(stdout: impl Read, limit: usize, plugin: &str, hear: impl Fn(Heard)) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        // One byte more tells a line of just the limit from a longer one.
        let read = (&mut stdout).take(limit as u64 + 1).read_until(b'\n', &mut line);
        match read {
            Ok(0) | Err(_) => return hear(Heard::Closed),
            Ok(_) if line.len() > limit => return hear(Heard::Broken(Fault::LongLine { limit })),
            Ok(_) => {}
        }
        match parse(&line) {
            Ok(FromPlugin::Log { level, message }) => log(plugin, &level, &message),
            Ok(message) => hear(Heard::Message(message)),
            Err(fault) => return hear(Heard::Broken(fault)),
        }
    }
}

fn parse(line: &[u8]) -> Result<FromPlugin, Fault> {
    serde_json::from_slice(line).map_err(|error| {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end().chars().take(SHOWN).collect();
        Fault::NoMessage { line, reason: error.to_string() }
    })
}

fn log(plugin: &str, level: &str, message: &str) {
    match level {
        "error" => tracing::error!(plugin, "{message}"),
        "warn" => tracing::warn!(plugin, "{message}"),
        "debug" => tracing::debug!(plugin, "{message}"),
        _ => tracing::info!(plugin, "{message}"),
    }
}

/// Logs the lines of stderr, and keeps the last.
pub(super) fn keep(stderr: impl Read, tail: &Tail, plugin: &str) {
    let mut stderr = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut stderr).take(STDERR_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if !line.is_empty() {
            tracing::info!(plugin, "{line}");
            tail.push(line);
        }
    }
}

/// The last lines that were written.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn heard(text: &str, limit: usize) -> Vec<String> {
        let all = RefCell::new(Vec::new());
        hear(text.as_bytes(), limit, "p", |heard| {
            all.borrow_mut().push(match heard {
                Heard::Message(message) => format!("{message:?}"),
                Heard::Broken(fault) => fault.to_string(),
                Heard::Closed => "closed".to_owned(),
            });
        });
        all.into_inner()
    }

    #[test]
    fn messages_are_heard_until_something_is_none() {
        let heard = heard("{\"type\":\"result\",\"id\":3}\nnonsense\n{\"type\":\"result\",\"id\":4}\n", 99);
        assert_eq!(heard[0], "Result { id: 3, value: Null }");
        let refused = "it wrote a line that is no message of the protocol (expected ident at line 1 column 2): \
                       `nonsense`";
        assert_eq!(heard[1..], [refused]);
    }

    #[test]
    fn a_line_is_never_longer_than_the_limit() {
        let line = "{\"type\":\"result\",\"id\":3}\n";
        assert_eq!(heard(line, line.len()).len(), 2);
        assert_eq!(heard(line, line.len() - 1), ["it wrote a line of more than 24 bytes"]);
        assert_eq!(heard(&"x".repeat(1000), 10), ["it wrote a line of more than 10 bytes"]);
    }

    #[test]
    fn the_last_lines_of_stderr_are_kept() {
        let tail = Tail::default();
        let text: String = (0..40).map(|n| format!("line {n}\n\n")).collect();
        keep(text.as_bytes(), &tail, "p");
        assert_eq!(tail.lines().len(), KEPT);
        assert_eq!(tail.lines()[KEPT - 1], "line 39");
    }
}
