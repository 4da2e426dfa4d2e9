//! Jobs on a Ray of this machine, started for the test. Needs PyPI's `ray[default]`: `ISR_TEST_RAY` names its
//! program, else `ray` on PATH is taken.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::env;
use std::process::Command;

use isr_sweep::scheduler::{Ray, SchedulerConfig};
use support::daemons::{Daemon, ports};
use support::{Jobs, scenarios, wait_for};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Cluster {
    _head: Daemon,
    // Sockets lie in it, whose paths must be short.
    _folder: TempDir,
    address: String,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ray").tempdir_in("/tmp").unwrap();
        let [port, dashboard, agent, metrics, client, export] = ports();
        let mut command = Command::new(env::var("ISR_TEST_RAY").unwrap_or("ray".into()));
        command.args(["start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"]);
        command.args(["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]);
        command.arg(format!("--temp-dir={}", folder.path().display())).args([
            format!("--port={port}"),
            format!("--dashboard-port={dashboard}"),
            format!("--dashboard-agent-listen-port={agent}"),
            format!("--dashboard-agent-grpc-port={metrics}"),
            format!("--ray-client-server-port={client}"),
            format!("--metrics-export-port={export}"),
        ]);
        let head = Daemon::start(&folder.path().join("head.log"), &mut command);
        let answers = || std::net::TcpStream::connect(("127.0.0.1", dashboard)).is_ok();
        wait_for(answers).await;
        Self { _head: head, _folder: folder, address: format!("http://127.0.0.1:{dashboard}") }
    }

    fn settings(&self, jobs: usize) -> SchedulerConfig {
        SchedulerConfig::Ray(Ray { address: self.address.clone(), jobs, poll: 0.5 })
    }
}

#[tokio::test]
#[ignore = "needs a Ray that can be started here: `cargo xtask test --clusters`"]
async fn ray_runs_jobs_remembers_them_and_cancels_them() {
    let cluster = Cluster::start().await;
    scenarios::runs_jobs(&cluster.settings(4)).await;
    scenarios::survives_a_cut(&cluster.settings(2), |_| {}).await;
    scenarios::cancels(&cluster.settings(1)).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named() {
    let [port] = ports();
    let (jobs, address) = (Jobs::new(), format!("http://127.0.0.1:{port}/"));
    let settings = SchedulerConfig::Ray(Ray { address, jobs: 1, poll: 0.1 });
    let scheduler = settings.open(&jobs.folder().join("state")).unwrap();
    let mut watch = |_: &isr_sweep::scheduler::Job, _| {};
    let error = scheduler.run(vec![jobs.shell("a", "true")], &mut watch, CancellationToken::new()).await;
    let message = error.unwrap_err().to_string();
    assert!(message.starts_with(&format!("Ray at http://127.0.0.1:{port}: ")), "{message}");
    assert!(message.contains("ray start --head"), "{message}");
}
