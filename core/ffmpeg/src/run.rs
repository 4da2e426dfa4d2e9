//! Runs the program under limits.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use crate::FfmpegError;
use crate::lines::Lines;

/// Bytes that are read from a pipe at once; Linux pipes hold as many.
const CHUNK: usize = 64 * 1024;

/// What one run may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Wall-clock time from start to end.
    pub wall: Duration,
    /// Address space of the process in bytes, its libraries included. Enforced where the system has
    /// `ulimit -v` (Linux); elsewhere it limits single allocations only.
    pub memory: u64,
    /// Bytes that are taken from standard output; the process is killed when it writes more.
    pub output: usize,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program ended; not necessarily with success.
    Exited(ExitStatus),
    /// The program wrote more than [`Limits::output`], and was killed.
    OutputLimit,
}

/// What a run left.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Standard output, at most [`Limits::output`] bytes of it.
    pub stdout: Vec<u8>,
}

/// Runs `program` with `args` within `limits`, feeds it `input`, and hands each line of its standard
/// error to `on_line` as it comes (cut to 4 KiB, so a flood of them takes no memory).
///
/// Arguments go to the program as they are, past any shell. Standard input is null where `input` is
/// empty. Dropping the future kills the process. An exit status other than zero is no error here.
///
/// # Errors
/// [`FfmpegError::Start`], [`FfmpegError::TimedOut`] or [`FfmpegError::Pipe`].
///
/// # Panics
/// Outside a tokio runtime that has I/O and time enabled.
pub async fn run(
    program: &Path,
    args: &[OsString],
    input: &[u8],
    limits: &Limits,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<Outcome, FfmpegError> {
    let mut child = command(program, limits)
        .args(["-nostdin", "-max_alloc", &limits.memory.min(i32::MAX as u64).to_string()])
        .args(args)
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| FfmpegError::Start { program: program.to_owned(), source })?;
    let done = tokio::time::timeout(limits.wall, exchange(&mut child, input, limits.output, on_line)).await;
    match done {
        Ok(outcome) => outcome.map_err(FfmpegError::Pipe),
        Err(_) => {
            // Reaped here, lest a run that times out often leaves zombies behind.
            child.kill().await.map_err(FfmpegError::Pipe)?;
            Err(FfmpegError::TimedOut(limits.wall))
        }
    }
}

/// The shell sets the limit on itself and becomes the program: the only way to a resource limit that
/// needs no `unsafe` here. What follows the script are its arguments, which it never interprets.
#[cfg(unix)]
fn command(program: &Path, limits: &Limits) -> Command {
    const SCRIPT: &str = r#"ulimit -v "$1" 2>/dev/null; shift; exec "$@""#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "sh"]).arg((limits.memory / 1024).to_string()).arg(program);
    clean(command)
}

#[cfg(not(unix))]
fn command(program: &Path, _: &Limits) -> Command {
    clean(Command::new(program))
}

/// Takes away the variables with which the caller's environment would change the program's log.
fn clean(mut command: Command) -> Command {
    command.env_remove("FFREPORT").env_remove("AV_LOG_FORCE_COLOR").env("AV_LOG_FORCE_NOCOLOR", "1");
    command
}

async fn exchange(
    child: &mut Child,
    input: &[u8],
    limit: usize,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> std::io::Result<Outcome> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let output = async {
        let read = read_up_to(stdout, limit).await;
        if !matches!(read, Ok((_, true))) {
            child.start_kill()?;
        }
        read
    };
    let (read, logged, ()) = tokio::join!(output, read_lines(stderr, on_line), feed(stdin, input));
    let (stdout, complete) = read?;
    logged?;
    let status = child.wait().await?;
    let ending = if complete { Ending::Exited(status) } else { Ending::OutputLimit };
    Ok(Outcome { ending, stdout })
}

/// The bytes up to `limit`, and whether that was all.
async fn read_up_to(
    from: Option<impl AsyncRead + Unpin>,
    limit: usize,
) -> std::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let Some(mut from) = from else { return Ok((bytes, true)) };
    loop {
        bytes.reserve(CHUNK);
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok((bytes, true));
        }
        if bytes.len() > limit {
            bytes.truncate(limit);
            return Ok((bytes, false));
        }
    }
}

async fn read_lines(
    from: Option<impl AsyncRead + Unpin>,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let (mut lines, mut chunk) = (Lines::default(), vec![0; CHUNK]);
    loop {
        match from.read(&mut chunk).await? {
            0 => break,
            count => lines.push(&chunk[..count], on_line),
        }
    }
    lines.finish(on_line);
    Ok(())
}

async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        // A program that has read enough closes the pipe; its exit status tells whether it was content.
        stdin.write_all(input).await.ok();
    }
}
