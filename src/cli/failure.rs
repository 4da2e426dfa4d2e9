//! How errors are printed, and what the program exits with.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use isr_api::Error;

use super::terminal::printable;

/// The work failed.
const FAILED: u8 = 1;
/// The command line, the config or what it names cannot be used.
const UNUSABLE: u8 = 2;
/// Ctrl-C; 128 and the signal's number, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether this process has said why it fails.
static SAID: AtomicBool = AtomicBool::new(false);

/// Prints an error with its causes, and returns the exit code for it.
pub(super) fn report(error: &anyhow::Error) -> u8 {
    if reader_is_gone(error) {
        return 0;
    }
    if SAID.swap(true, Ordering::Relaxed) {
        return code(error);
    }
    // Where stderr is closed, the exit code has to do.
    let _ = write!(io::stderr(), "{}", printable(&text(error)));
    code(error)
}

/// Ends this process because its group has lost another one: prints which and why.
pub(super) fn end_lost(cause: &str) -> ! {
    if !SAID.swap(true, Ordering::Relaxed) {
        let _ = writeln!(io::stderr(), "error: {}", printable(cause));
    }
    let stopped = cause.contains(&Error::Cancelled.to_string());
    signal_hook::low_level::exit(if stopped { INTERRUPTED } else { FAILED }.into())
}

/// `error: ...`, causes that say something new, and a hint where there is one.
fn text(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors of this project quote their cause.
        if !text.contains(&cause) {
            text.push_str(&format!("  cause: {cause}\n"));
        }
    }
    if let Some(hint) = hint(error) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// An error with its causes, on one line.
pub(super) fn on_one_line(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line.push_str(&format!(": {cause}"));
        }
    }
    line
}

/// `isr plugins list | head -1` is no failure.
fn reader_is_gone(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Config(_) | Error::Build { .. } | Error::Locked { .. } | Error::OtherRun { .. }) => {
            UNUSABLE
        }
        Some(Error::Cancelled) => INTERRUPTED,
        Some(_) => FAILED,
        None if error.is::<Unusable>() => UNUSABLE,
        None if error.is::<Ended>() => error.downcast_ref::<Ended>().map_or(FAILED, |ended| ended.code),
        None => FAILED,
    }
}

fn hint(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref::<Unusable>()?.hint.as_deref()
}

/// A process of a group that failed; it has said why itself, unless it was killed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) rank: usize,
    pub(crate) status: std::process::ExitStatus,
    /// Exit code for the group.
    pub(crate) code: u8,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ended with {}; the same command continues the run", self.rank, self.status)
    }
}

impl std::error::Error for Ended {}

/// An argument that cannot be used.
#[derive(Debug)]
pub(crate) struct Unusable {
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Unusable {}
