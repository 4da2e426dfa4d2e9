//! Exit of a process and of what it started.

use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Waits for the process to exit, kills it after `grace`, and returns how it ended. Whatever else is in its process
/// group is killed too: what a plugin starts ends with the plugin.
pub(super) fn wait(child: &mut Child, grace: Duration) -> String {
    let until = Instant::now() + grace;
    let mut exited = has_exited(child);
    while !exited && Instant::now() < until {
        thread::sleep(Duration::from_millis(2));
        exited = has_exited(child);
    }
    // The process is not reaped yet, so no other can have its id, and the group is its own.
    kill_group(child);
    match child.wait() {
        Ok(status) if exited => describe(status),
        Ok(_) => "it was ended".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Whether the process has exited. It stays to be reaped.
#[cfg(unix)]
fn has_exited(child: &mut Child) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(Pid::from_child(child)), options), Ok(None))
}

#[cfg(not(unix))]
fn has_exited(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

#[cfg(unix)]
fn kill_group(child: &mut Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    // An error says that nobody is left.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

#[cfg(not(unix))]
fn kill_group(child: &mut Child) {
    let _ = child.kill();
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("with status {code}"),
        None => status.to_string(),
    }
}
