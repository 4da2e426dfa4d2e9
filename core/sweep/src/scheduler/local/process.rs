//! One job as a process group.

use std::fs::{self, File, OpenOptions};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::slots::Share;
use crate::scheduler::{Job, JobEnd, PARENT_VARIABLE};

/// From SIGTERM to SIGKILL, for a program that does not know SIGINT.
const AFTER_TERM: Duration = Duration::from_secs(5);

/// Runs a job to its end, or stops it. `grace` is in seconds.
pub(super) async fn run(job: &Job, share: &Share, grace: f64, cancel: CancellationToken) -> JobEnd {
    let mut child = match start(job, share) {
        Ok(child) => child,
        Err(status) => return JobEnd::Failed { status },
    };
    // Kills what is left of the group, however this function is left.
    let group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
    let (status, stopped) = tokio::select! {
        status = child.wait() => (status, false),
        () = cancel.cancelled() => (stop(&mut child, &group, grace).await, true),
    };
    match status {
        Ok(status) if status.success() => JobEnd::Done,
        _ if stopped => JobEnd::Cancelled,
        Ok(status) => JobEnd::Failed { status: status.to_string() },
        Err(error) => JobEnd::Failed { status: format!("lost sight of it: {error}") },
    }
}

async fn stop(child: &mut Child, group: &Group, grace: f64) -> std::io::Result<ExitStatus> {
    // Also of a grace that is no number of seconds.
    let grace = Duration::try_from_secs_f64(grace).unwrap_or_default();
    for (signal, patience) in [(Signal::INT, grace), (Signal::TERM, AFTER_TERM)] {
        group.send(signal);
        if let Ok(status) = timeout(patience, child.wait()).await {
            return status;
        }
    }
    group.send(Signal::KILL);
    child.wait().await
}

/// The process, or why there is none.
fn start(job: &Job, share: &Share) -> Result<Child, String> {
    let log = open(job).map_err(|error| format!("cannot write {}: {error}", job.log.display()))?;
    let error = log.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(&job.command[0]);
    command.args(&job.command[1..]).current_dir(&job.dir).envs(job.variables());
    if let Some(visible) = &share.visible {
        command.env("CUDA_VISIBLE_DEVICES", visible);
    }
    // This process may be killed; what it started ends by itself then.
    command.env(PARENT_VARIABLE, std::process::id().to_string());
    command.stdin(Stdio::null()).stdout(log).stderr(error).kill_on_drop(true);
    // So that a Ctrl-C reaches us alone, and signals of ours reach what a job starts too.
    command.process_group(0);
    let spawned = command.spawn();
    spawned.map_err(|error| format!("cannot start `{}` in {}: {error}", job.command[0], job.dir.display()))
}

fn open(job: &Job) -> std::io::Result<File> {
    if let Some(folder) = job.log.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(&job.log)
}

/// A process group, which is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn send(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It fails where all of them have ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.send(Signal::KILL);
    }
}
