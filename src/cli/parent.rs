//! A run ends with the process that started it: a sweep, or the command whose `--processes` it is one of.

use std::path::Path;
use std::time::{Duration, Instant};

use isr_api::Error;
use isr_dpo::CancellationToken;
pub(super) use isr_run::PARENT_VARIABLE;
use isr_run::store::lock_dir;
use rustix::process::{Pid, getppid, test_kill_process};

use super::failure::INTERRUPTED;
use super::session::Session;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Time in which a run whose sweep is gone may write what it has; and that its successor waits for.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process that started this one, as its child or further down.
struct Parent {
    pid: Pid,
    is_direct: bool,
}

impl Parent {
    fn find() -> Option<Self> {
        let pid = std::env::var(PARENT_VARIABLE).ok()?.parse().ok().and_then(Pid::from_raw)?;
        Some(Self { pid, is_direct: getppid() == Some(pid) })
    }

    /// A child gets another parent when its own ends; of others, only the process itself tells.
    fn is_gone(&self) -> bool {
        match self.is_direct {
            true => getppid() != Some(self.pid),
            false => test_kill_process(self.pid).is_err(),
        }
    }
}

/// Cancels a run once the process that started it is gone, and ends this one where that takes too long. Does nothing for a
/// run that a person or a scheduler started.
pub(super) fn ends_with_parent(session: &Session, cancel: &CancellationToken) {
    let Some(parent) = Parent::find() else { return };
    let (progress, cancel) = (session.progress.clone(), cancel.clone());
    std::thread::spawn(move || {
        while !parent.is_gone() {
            std::thread::sleep(PAUSE);
        }
        progress.line("the process that started this one is gone; stopping");
        cancel.cancel();
        std::thread::sleep(PATIENCE);
        signal_hook::low_level::exit(INTERRUPTED.into());
    });
}

/// Waits for a run's process that a killed sweep left behind, as it is about to end. Without a sweep, does nothing: then the
/// directory is another command's.
pub(super) fn waits_for_predecessor(session: &Session, out: &Path) {
    if Parent::find().is_none() || !out.is_dir() {
        return;
    }
    let (start, mut told) = (Instant::now(), false);
    while start.elapsed() < PATIENCE && matches!(lock_dir(out), Err(Error::Locked { .. })) {
        if !std::mem::replace(&mut told, true) {
            session.progress.line("waiting for the process of an earlier sweep to end");
        }
        std::thread::sleep(PAUSE);
    }
}
