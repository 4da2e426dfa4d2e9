//! Lines of a process's stdout and stderr, of bounded length.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::ProcessEvent;
use super::log::ProcessLog;
use crate::error::SessionErrorKind;
use crate::message::FromPlugin;

/// Number of stderr lines that are kept.
const KEPT: usize = 12;
/// Longest stderr line in bytes; a longer one is split.
const STDERR_LINE: u64 = 2000;
/// Longest excerpt of a line in an error message, in characters.
const SHOWN: usize = 120;

/// Reads messages until the output ends or a line is no message.
pub(super) fn read_messages(
    stdout: impl Read,
    limit: usize,
    log: &ProcessLog,
    on_event: impl Fn(ProcessEvent),
) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let limit = log.line_limit(limit);
        // One byte more tells a line of just the limit from a longer one.
        let read = (&mut stdout).take(limit as u64 + 1).read_until(b'\n', &mut line);
        match read {
            Ok(0) | Err(_) => return on_event(ProcessEvent::Closed),
            Ok(_) => {}
        }
        if let Err(kind) = log.count(line.len()) {
            return on_event(ProcessEvent::Broken(kind));
        }
        if line.len() > limit {
            return on_event(ProcessEvent::Broken(SessionErrorKind::LongLine { limit }));
        }
        match parse(&line) {
            Ok(FromPlugin::Log { level, message }) => log.line(&level, &message),
            Ok(message) => {
                log.greeted();
                on_event(ProcessEvent::Message { message, bytes: line.len() });
            }
            Err(kind) => return on_event(ProcessEvent::Broken(kind)),
        }
    }
}

fn parse(line: &[u8]) -> Result<FromPlugin, SessionErrorKind> {
    serde_json::from_slice(line).map_err(|error| {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end().chars().take(SHOWN).collect();
        SessionErrorKind::NoMessage { line, reason: error.to_string() }
    })
}

/// Logs the lines of stderr, and keeps the last of them. An error is handed on once; what follows is read and dropped,
/// so that the process can end.
pub(super) fn read_stderr(
    stderr: impl Read,
    tail: &StderrTail,
    log: &ProcessLog,
    on_event: impl Fn(ProcessEvent),
) {
    let mut stderr = BufReader::new(stderr);
    let mut is_flooded = false;
    loop {
        let mut line = Vec::new();
        match (&mut stderr).take(STDERR_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if is_flooded {
            continue;
        }
        if let Err(kind) = log.count(line.len()) {
            is_flooded = true;
            on_event(ProcessEvent::Broken(kind));
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if !line.is_empty() {
            log.line("info", &line);
            tail.push(line);
        }
    }
}

/// The last lines of stderr.
#[derive(Clone, Default)]
pub(super) struct StderrTail(Arc<Mutex<VecDeque<String>>>);

impl StderrTail {
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

    fn events(text: &str, limit: usize) -> Vec<String> {
        let all = RefCell::new(Vec::new());
        read_messages(text.as_bytes(), limit, &ProcessLog::new("p"), |event| {
            all.borrow_mut().push(match event {
                ProcessEvent::Message { message, .. } => format!("{message:?}"),
                ProcessEvent::Broken(kind) => kind.to_string(),
                ProcessEvent::Closed => "closed".to_owned(),
                other => format!("{other:?}"),
            });
        });
        all.into_inner()
    }

    #[test]
    fn messages_are_read_until_a_line_is_none() {
        let events =
            events("{\"type\":\"result\",\"id\":3}\nnonsense\n{\"type\":\"result\",\"id\":4}\n", 99);
        assert_eq!(events[0], "Result { id: 3, value: Null }");
        let refused = "it wrote a line that is no message of the protocol (expected ident at line 1 column 2): \
                       `nonsense`";
        assert_eq!(events[1..], [refused]);
    }

    #[test]
    fn a_line_is_never_longer_than_the_limit() {
        let line = "{\"type\":\"result\",\"id\":3}\n";
        assert_eq!(events(line, line.len()).len(), 2);
        assert_eq!(events(line, line.len() - 1), ["it wrote a line of more than 24 bytes"]);
        assert_eq!(events(&"x".repeat(1000), 10), ["it wrote a line of more than 10 bytes"]);
    }

    #[test]
    fn a_flood_before_the_hello_ends_it_with_and_without_line_breaks() {
        let log_line =
            format!("{{\"type\":\"log\",\"level\":\"debug\",\"message\":\"{}\"}}\n", "x".repeat(1 << 20));
        for text in ["x".repeat(17 << 20), log_line.repeat(17)] {
            assert_eq!(events(&text, 64 << 20), ["it wrote more than 16777216 bytes before its hello"]);
        }
        let (tail, said) = (StderrTail::default(), RefCell::new(Vec::new()));
        let text = "x\n".repeat(9 << 20);
        read_stderr(text.as_bytes(), &tail, &ProcessLog::new("p"), |event| said.borrow_mut().push(event));
        assert!(matches!(said.borrow()[..], [ProcessEvent::Broken(SessionErrorKind::Flood { .. })]));
        assert_eq!(tail.lines().len(), KEPT);
    }

    #[test]
    fn the_last_lines_of_stderr_are_kept() {
        let tail = StderrTail::default();
        let text: String = (0..40).map(|n| format!("line {n}\n\n")).collect();
        read_stderr(text.as_bytes(), &tail, &ProcessLog::new("p"), |event| panic!("{event:?}"));
        assert_eq!(tail.lines().len(), KEPT);
        assert_eq!(tail.lines()[KEPT - 1], "line 39");
    }
}
