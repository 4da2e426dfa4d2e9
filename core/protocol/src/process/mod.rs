//! A plugin's process: lines in, lines out, and the end of its stderr.

mod exit;
mod lines;
mod log;

use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use lines::StderrTail;
use log::ProcessLog;

use crate::error::SessionErrorKind;
use crate::limits::Limits;
use crate::message::{FromPlugin, ToPlugin};
use crate::program::Program;

/// An event of a process.
#[derive(Debug)]
pub(crate) enum ProcessEvent {
    /// It wrote a message of so many bytes. Log lines are no events: they go to the log.
    Message { message: FromPlugin, bytes: usize },
    /// It wrote something that is no message.
    Broken(SessionErrorKind),
    /// Its standard output has ended.
    Closed,
    /// The answer to the question of this id was written to its input.
    AnswerWritten(u64),
}

/// A running process. Reading and writing have threads of their own, so that no process can make its owner
/// wait.
pub(crate) struct Process {
    child: Child,
    input: SyncSender<Line>,
    unread: usize,
    tail: StderrTail,
    stderr_ended: Receiver<()>,
}

/// A line for a process's input.
struct Line {
    text: String,
    /// The question that it answers.
    answers: Option<u64>,
}

impl Process {
    /// Starts a program. Its events go to `on_event`, which may block: then the process waits to be read.
    pub(crate) fn start(
        program: &Program,
        limits: &Limits,
        on_event: impl Fn(ProcessEvent) + Clone + Send + 'static,
    ) -> Result<Self, SessionErrorKind> {
        let mut command = program.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for isr, which then closes the plugin's input; and a group can be killed as a whole.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let not_started = |cause| {
            let executable = program.executable.display().to_string();
            SessionErrorKind::NotStarted { executable, cause }
        };
        let mut child = command.spawn().map_err(not_started)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(SessionErrorKind::Protocol("it has no standard input and output".to_owned()));
        };
        let (input, written) = mpsc::sync_channel(limits.unread);
        let on_written = on_event.clone();
        thread::spawn(move || write_lines(stdin, &written, on_written));
        let (log, line_bytes) = (ProcessLog::new(&program.name), limits.line_bytes);
        let (on_message, messages) = (on_event.clone(), log.clone());
        thread::spawn(move || lines::read_messages(stdout, line_bytes, &messages, on_message));
        let tail = StderrTail::default();
        let (ended, stderr_ended) = mpsc::sync_channel(1);
        let kept = tail.clone();
        thread::spawn(move || {
            lines::read_stderr(stderr, &kept, &log, on_event);
            drop(ended);
        });
        Ok(Self { child, input, unread: limits.unread, tail, stderr_ended })
    }

    /// Queues a message for its input, without waiting.
    ///
    /// # Errors
    /// The queue is full: the process does not read. One that has ended is noticed by its output instead.
    pub(crate) fn write(&self, message: &ToPlugin) -> Result<(), SessionErrorKind> {
        let answers = match message {
            ToPlugin::Answer { id, .. } => Some(*id),
            _ => None,
        };
        let text = match serde_json::to_string(message) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!("a message to a plugin cannot be written: {error}");
                return Ok(());
            }
        };
        match self.input.try_send(Line { text, answers }) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(SessionErrorKind::Protocol(format!(
                "it does not read its input, where {} messages wait (the limit)",
                self.unread
            ))),
        }
    }

    /// Closes its input, kills it if it does not exit within `grace`, with all that it started in its process group, and
    /// returns how it ended and the end of its stderr.
    pub(crate) fn end(mut self, grace: Duration) -> (String, Vec<String>) {
        drop(self.input);
        let status = exit::wait(&mut self.child, grace);
        // A process that left the group may hold its stderr open: that one is not waited for.
        let _ = self.stderr_ended.recv_timeout(Duration::from_millis(200));
        (status, self.tail.lines())
    }
}

fn write_lines(mut stdin: ChildStdin, lines: &Receiver<Line>, on_event: impl Fn(ProcessEvent)) {
    for Line { mut text, answers } in lines {
        text.push('\n');
        if stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return;
        }
        if let Some(id) = answers {
            on_event(ProcessEvent::AnswerWritten(id));
        }
    }
}
