//! Execution under limits.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use crate::FfmpegError;
use crate::lines::Lines;

/// Size of reads from a pipe in bytes: the capacity of a Linux pipe.
const CHUNK: usize = 64 * 1024;

/// Resource limits of a run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Wall-clock time.
    pub wall: Duration,
    /// Address space of the process in bytes, including libraries (`RLIMIT_AS`, on Linux); elsewhere it limits
    /// single allocations only.
    pub memory: u64,
    /// Size of standard output in bytes; the process is killed when it writes more.
    pub output: usize,
}

/// End of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The program exited, not necessarily with success.
    Exited(ExitStatus),
    /// The program exceeded [`Limits::output`] and was killed.
    OutputLimit,
}

/// Result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status, or the exceeded output limit.
    pub ending: Ending,
    /// Standard output, truncated to [`Limits::output`] bytes.
    pub stdout: Vec<u8>,
}

/// Runs `program` with `args` under `limits`, with `input` as standard input, and calls `on_line` for each line
/// of standard error as it arrives, truncated to 4 KiB.
///
/// Arguments are passed verbatim, without a shell. With an empty `input`, standard input is null. Dropping the
/// future kills the process, which has a process group of its own: Ctrl-C in a terminal does not reach it. A nonzero exit status is not an error here.
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
    let mut command = Command::new(program);
    clean(command.as_std_mut());
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command
        .args(["-nostdin", "-max_alloc", &limits.memory.min(i32::MAX as u64).to_string()])
        .args(args)
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| FfmpegError::Start { program: program.to_owned(), source })?;
    confine(&child, limits.memory);
    let done = tokio::time::timeout(limits.wall, exchange(&mut child, input, limits.output, on_line)).await;
    match done {
        Ok(outcome) => outcome.map_err(FfmpegError::Pipe),
        Err(_) => {
            // Reaps the process, so that time-outs leave no zombies.
            child.kill().await.map_err(FfmpegError::Pipe)?;
            Err(FfmpegError::TimedOut(limits.wall))
        }
    }
}

/// Limits the address space of a process that has just been started, and has it leave no core dump. A process
/// that has ended already needs no limit, so errors are ignored.
#[cfg(target_os = "linux")]
fn confine(child: &Child, memory: u64) {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return };
    let limit = |value| Rlimit { current: Some(value), maximum: Some(value) };
    let most = getrlimit(Resource::As).maximum.unwrap_or(u64::MAX);
    prlimit(Some(pid), Resource::As, limit(memory.min(most))).ok();
    prlimit(Some(pid), Resource::Core, limit(0)).ok();
}

#[cfg(not(target_os = "linux"))]
fn confine(_: &Child, _: u64) {}

/// Sets the environment of ffmpeg. Removes variables that would change its log, and keeps the C library from
/// loading converters of character sets: those of the system crash a statically linked ffmpeg, which asks for
/// them to read the service names of an MPEG transport stream.
pub(crate) fn clean(command: &mut std::process::Command) {
    command.env_remove("FFREPORT").env_remove("AV_LOG_FORCE_COLOR").env("AV_LOG_FORCE_NOCOLOR", "1");
    command.env("GCONV_PATH", "/nonexistent");
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

/// Reads up to `limit` bytes; the flag is false if there were more.
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
        // A program that has read enough closes the pipe; its exit status tells whether it succeeded.
        stdin.write_all(input).await.ok();
    }
}
