//! A plugin's process: lines in, lines out, and its last words.

mod ending;
mod lines;

use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use lines::Tail;

use crate::error::Fault;
use crate::message::{FromPlugin, ToPlugin};
use crate::program::Program;

/// What is heard from a process.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message; log lines are not heard, they go to the log.
    Message(FromPlugin),
    /// Something that is no message.
    Broken(Fault),
    /// Its output has ended.
    Closed,
}

/// A running process. Reading and writing have threads of their own, so that no process can make its owner
/// wait.
pub(crate) struct Process {
    child: Child,
    input: Sender<String>,
    tail: Tail,
    stderr_ended: Receiver<()>,
}

impl Process {
    /// Starts a program; what it writes goes to `hear`, on a thread.
    pub(crate) fn start(
        program: &Program,
        line_bytes: usize,
        hear: impl Fn(Heard) + Send + 'static,
    ) -> Result<Self, Fault> {
        let mut command = program.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for isr, which then closes the plugin's input.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let not_started = |cause| {
            let executable = program.executable.display().to_string();
            Fault::NotStarted { executable, cause }
        };
        let mut child = command.spawn().map_err(not_started)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Fault::Protocol("it has no standard input and output".to_owned()));
        };
        let (input, written) = mpsc::channel();
        thread::spawn(move || write_lines(stdin, &written));
        let name = program.name.clone();
        thread::spawn(move || lines::hear(stdout, line_bytes, &name, hear));
        let tail = Tail::default();
        let (ended, stderr_ended) = mpsc::channel();
        let (kept, name) = (tail.clone(), program.name.clone());
        thread::spawn(move || {
            lines::keep(stderr, &kept, &name);
            drop(ended);
        });
        Ok(Self { child, input, tail, stderr_ended })
    }

    /// Writes a message, some time soon. A process that has ended is noticed by its output.
    pub(crate) fn write(&self, message: &ToPlugin) {
        match serde_json::to_string(message) {
            Ok(line) => drop(self.input.send(line)),
            Err(error) => tracing::error!("a message to a plugin cannot be written: {error}"),
        }
    }

    /// Closes its input, ends it if it does not end within `grace`, and says how it ended and what it
    /// wrote last to stderr.
    pub(crate) fn end(mut self, grace: Duration) -> (String, Vec<String>) {
        drop(self.input);
        let status = ending::wait(&mut self.child, grace);
        // Whoever else holds its stderr is not waited for.
        let _ = self.stderr_ended.recv_timeout(Duration::from_millis(200));
        (status, self.tail.lines())
    }
}

fn write_lines(mut stdin: ChildStdin, lines: &Receiver<String>) {
    for mut line in lines {
        line.push('\n');
        if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}
