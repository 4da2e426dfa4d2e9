//! Jobs on a Ray of this machine, started for the test. Needs PyPI's `ray[default]`: `ISR_TEST_RAY` names its
//! program, else `ray` on PATH is taken.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::env;
use std::process::Command;

use isr_sweep::scheduler::{JobEnd, Ray, SchedulerConfig};
use support::daemons::{Daemon, ports};
use support::{Jobs, failed, scenarios, wait_for};
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

/// A job server that answers each request for a job's status with the next of these, the last one for ever.
fn server(answers: &'static [(u16, &'static str)]) -> String {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut looks = 0;
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (Vec::new(), 0);
            for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
                head.push(line);
            }
            std::io::copy(&mut reader.take(length), &mut std::io::sink()).unwrap();
            let (status, body) = match head[0].starts_with("GET") {
                true => {
                    looks += 1;
                    answers[(looks - 1).min(answers.len() - 1)]
                }
                false => (200, "{}"),
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    address
}

async fn end_by(answers: &'static [(u16, &'static str)]) -> JobEnd {
    let jobs = Jobs::new();
    let settings = SchedulerConfig::Ray(Ray { address: server(answers), jobs: 1, poll: 0.001 });
    let scheduler = settings.open(&jobs.folder().join("state")).unwrap();
    let mut ends = support::run(&*scheduler, vec![jobs.shell("a", "true")], CancellationToken::new()).await;
    ends.remove("a").unwrap()
}

#[tokio::test]
async fn a_job_that_a_restarted_head_does_not_know_has_failed() {
    let end = end_by(&[(200, r#"{"status":"RUNNING"}"#), (503, ""), (404, "")]).await;
    assert_eq!(end, failed("Ray has forgotten it: was it restarted?"));
}

#[tokio::test]
async fn a_job_that_waits_for_resources_is_waited_for_until_ray_gives_it_up() {
    const PENDING: (u16, &str) = (200, r#"{"status":"PENDING"}"#);
    static LONG: [(u16, &str); 201] = {
        let mut answers = [PENDING; 201];
        answers[200] = (
            200,
            r#"{"status":"FAILED","message":"Job supervisor actor failed to start within 900.0 seconds."}"#,
        );
        answers
    };
    let JobEnd::Failed { status } = end_by(&LONG).await else { panic!("it failed") };
    assert!(status.contains("failed to start within 900.0 seconds"), "{status}");
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
