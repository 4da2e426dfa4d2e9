//! Slurm's programs.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::state::State;
use crate::scheduler::SchedulerError;

/// Where they are.
pub(super) struct Programs {
    bin: Option<PathBuf>,
}

impl Programs {
    /// In this folder, else on PATH.
    pub(super) fn new(bin: Option<&Path>) -> Self {
        Self { bin: bin.map(Path::to_owned) }
    }

    /// Submits a script; the array's id.
    pub(super) async fn sbatch(&self, arguments: &[String]) -> Result<String, SchedulerError> {
        let output = self.run("sbatch", arguments).await?;
        // `ID` or `ID;CLUSTER`.
        let id = output.trim().split(';').next().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error("sbatch", format!("answered `{}` and not an id", output.trim())));
        }
        Ok(id.to_owned())
    }

    /// The largest number of tasks of an array; `None` where the cluster does not tell.
    pub(super) async fn max_array(&self) -> Option<usize> {
        let output = self.run("scontrol", &["show", "config"]).await.ok()?;
        let value = |line: &str| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == "MaxArraySize").then(|| value.trim().parse().ok())?
        };
        // Indices run to one less, from 0. 0 means that there are no arrays: sbatch says so better.
        output.lines().find_map(value).filter(|size| *size > 0)
    }

    /// The states of an array's tasks by index: of those that wait, run, or ended within some minutes.
    pub(super) async fn squeue(&self, name: &str) -> Result<HashMap<usize, State>, SchedulerError> {
        let output = self
            .run("squeue", &["--noheader", "--array", "--states=all", "--format=%K|%T", "--name", name])
            .await?;
        let rows = output.lines().filter_map(|line| line.trim().split_once('|'));
        Ok(rows.filter_map(|(index, state)| Some((index.parse().ok()?, State::read(state)))).collect())
    }

    /// How a task ended that has left the queue, where the cluster keeps accounts.
    pub(super) async fn sacct(&self, id: &str, index: usize) -> Option<String> {
        let task = format!("{id}_{index}");
        let arguments = ["--noheader", "--parsable2", "--allocations", "--format=State", "--jobs", &task];
        let output = self.run("sacct", &arguments).await.ok()?;
        match State::read(output.lines().next()?) {
            State::Over(word) => Some(word),
            State::Waiting | State::Running => None,
        }
    }

    /// Ends an array's tasks.
    pub(super) async fn scancel(&self, name: &str) -> Result<(), SchedulerError> {
        self.run("scancel", &["--name", name]).await.map(drop)
    }

    async fn run(
        &self,
        program: &'static str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<String, SchedulerError> {
        let mut command =
            Command::new(self.bin.as_ref().map_or(PathBuf::from(program), |bin| bin.join(program)));
        // A Ctrl-C is ours to handle: it must not end a submission half way.
        let command = command.args(arguments).stdin(Stdio::null()).process_group(0);
        let output = command.output().await.map_err(|source| {
            error(
                program,
                format!("cannot be started: {source}; Slurm's programs must be on PATH or in `bin`"),
            )
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(error(program, format!("failed ({}): {}", output.status, said.trim())))
    }
}

fn error(program: &'static str, reason: String) -> SchedulerError {
    SchedulerError::Slurm { program, reason }
}
