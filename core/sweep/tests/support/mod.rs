//! What tests of all back ends share.

#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod daemons;
pub(crate) mod scenarios;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use isr_sweep::scheduler::{Job, JobEnd, JobEvent, Scheduler};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Jobs in a folder that is removed with this.
pub(crate) struct Jobs(TempDir);

impl Jobs {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// A shell script as a job.
    pub(crate) fn shell(&self, name: &str, script: &str) -> Job {
        Job {
            name: name.into(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            dir: self.folder().into(),
            log: self.folder().join(format!("logs/{name}.log")),
            env: Vec::new(),
            cpus: 1,
            gpus: 0,
            processes: 1,
        }
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder().join(format!("logs/{name}.log"))).unwrap()
    }
}

pub(crate) fn failed(status: &str) -> JobEnd {
    JobEnd::Failed { status: status.into() }
}

/// Runs jobs within two minutes; how each ended.
pub(crate) async fn run(
    scheduler: &dyn Scheduler,
    jobs: Vec<Job>,
    cancel: CancellationToken,
) -> BTreeMap<String, JobEnd> {
    let (mut ends, count) = (BTreeMap::new(), jobs.len());
    let mut watch = |job: &Job, event| {
        if let JobEvent::Ended(end) = event {
            assert!(ends.insert(job.name.clone(), end).is_none(), "{} ended twice", job.name);
        }
    };
    let run = scheduler.run(jobs, &mut watch, cancel);
    tokio::time::timeout(Duration::from_secs(120), run).await.expect("it ends").unwrap();
    assert_eq!(ends.len(), count);
    ends
}

/// Waits for something to become true, a minute at most.
pub(crate) async fn wait_for(mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not happen within a minute");
}

/// Whether a process runs; a zombie does not.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}
