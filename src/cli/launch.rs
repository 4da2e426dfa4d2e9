//! `--processes`: one command that starts its processes itself.

use std::ffi::OsString;
use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::failure::{Ended, INTERRUPTED};
use super::parent::PARENT_VARIABLE;
use super::session::{Session, Stops};

/// The option that says how many; left out of the processes' own command lines.
const OPTION: &str = "--processes";

/// A process of the group, which the launcher ends with.
struct Member {
    rank: usize,
    child: Child,
}

/// Runs this program's command line in `count` processes on this machine, and waits for all of them; `patience` is the time
/// in which the others end by themselves once one has failed.
///
/// # Errors
/// [`Ended`] with the exit code of the process that ended first of those that failed.
pub(super) fn launch(session: &Session, count: usize, patience: Duration) -> Result<()> {
    let stops = session.stopped_by_signals();
    session.block_on(async {
        let port = free_port().context("cannot find a free port for the processes to meet")?;
        let mut members = Vec::new();
        for rank in 0..count {
            let child = command(rank, count, port)?.spawn();
            let child = child.with_context(|| format!("cannot start process {rank} of {count}"))?;
            members.push(Member { rank, child });
        }
        outcome(wait(members, &stops, patience).await)
    })
}

/// The command of one process.
fn command(rank: usize, count: usize, port: u16) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
    command.args(without_option(std::env::args_os().skip(1)));
    command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
    command.env("WORLD_SIZE", count.to_string()).env("LOCAL_WORLD_SIZE", count.to_string());
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    command.env(PARENT_VARIABLE, std::process::id().to_string());
    for inherited in ["TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT"] {
        command.env_remove(inherited);
    }
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.env("OMP_NUM_THREADS", (cores / count).max(1).to_string());
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    if rank > 0 {
        command.stdout(Stdio::null());
    }
    Ok(command)
}

/// Leaves `--processes N` and `--processes=N` out.
fn without_option(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let (mut kept, mut skips) = (Vec::new(), false);
    for argument in arguments {
        let text = argument.to_string_lossy();
        if std::mem::take(&mut skips) || text.starts_with(&format!("{OPTION}=")) {
            continue;
        }
        match text == OPTION {
            true => skips = true,
            false => kept.push(argument),
        }
    }
    kept
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Waits for all processes; returns how each ended, in the order of their ends. Hands a request to stop on to them, and
/// kills what is left long after the first one failed.
async fn wait(members: Vec<Member>, stops: &Stops, patience: Duration) -> Vec<(usize, ExitStatus)> {
    let pids: Vec<(usize, Pid)> = members
        .iter()
        .filter_map(|member| Some((member.rank, Pid::from_raw(member.child.id()?.cast_signed())?)))
        .collect();
    let mut running: FuturesUnordered<_> = members
        .into_iter()
        .map(|mut member| async move { (member.rank, member.child.wait().await) })
        .collect();
    let (mut ends, mut told, mut deadline) = (Vec::new(), false, None);
    loop {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = running.next() => match end {
                Some((rank, Ok(status))) => {
                    ends.push((rank, status));
                    if !status.success() && deadline.is_none() {
                        deadline = Some(tokio::time::Instant::now() + patience);
                    }
                }
                Some((rank, Err(error))) => tracing::warn!(rank, %error, "cannot wait for a process"),
                None => return ends,
            },
            () = stops.any(), if !told => {
                told = true;
                let signal = if stops.now.is_cancelled() { Signal::INT } else { Signal::TERM };
                let has_ended = |rank: usize| ends.iter().any(|(ended, _)| *ended == rank);
                for (_, pid) in pids.iter().filter(|(rank, _)| !has_ended(*rank)) {
                    // One that has just ended needs no request.
                    let _ = kill_process(*pid, signal);
                }
            }
            // What is still running is killed when its `Child` is dropped.
            () = late => return ends,
        }
    }
}

/// What the group ended with: nothing to say if all processes are done.
fn outcome(ends: Vec<(usize, ExitStatus)>) -> Result<()> {
    match ends.into_iter().find(|(_, status)| !status.success()) {
        None => Ok(()),
        Some((rank, status)) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            match code == INTERRUPTED {
                true => Err(isr_api::Error::Cancelled.into()),
                false => Err(Ended { rank, status, code }.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processes_have_the_command_line_without_the_option() {
        for line in ["run a.toml --processes 4 -s x=1", "run --processes=4 a.toml -s x=1"] {
            let kept = without_option(line.split(' ').map(OsString::from));
            assert_eq!(kept, ["run", "a.toml", "-s", "x=1"].map(OsString::from));
        }
    }
}
