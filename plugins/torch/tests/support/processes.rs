//! Processes of a group: this test binary again, each in a role.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write, stdin};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Names the role of a process, which is not set in the test that starts it.
pub const ROLE: &str = "ISR_TEST_ROLE";

/// Returns the role of this process.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Waits, in a process, until the test has [let it go](Process::go): it is loaded by then.
pub fn await_go() {
    println!("ready");
    stdin().read_line(&mut String::new()).unwrap();
}

/// A port that nothing uses.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
}

impl Ended {
    /// The output of a process that has succeeded.
    pub fn succeeded(&self) -> &str {
        assert!(self.status.success(), "{self:?}");
        &self.output
    }

    /// Values of its lines `NAME VALUE`.
    pub fn values<'a>(&'a self, name: &str) -> Vec<&'a str> {
        self.output.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect()
    }
}

pub struct Process {
    pub rank: usize,
    child: Child,
    lines: Receiver<String>,
    read: String,
    errors: Option<thread::JoinHandle<String>>,
}

impl Process {
    /// Number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets a process go that waits for it.
    pub fn go(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for a line of its output.
    pub fn await_line(&mut self, line: &str) {
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(read) => {
                    self.read += &format!("{read}\n");
                    if read == line {
                        return;
                    }
                }
                Err(_) => panic!("rank {} said no {line:?}: {}", self.rank, self.read),
            }
        }
    }

    /// Waits for its end, a minute at most.
    pub fn end(mut self) -> Ended {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "rank {} does not end: {}",
                self.rank,
                self.read
            );
            thread::sleep(Duration::from_millis(5));
        };
        let mut output = std::mem::take(&mut self.read);
        output.extend(self.lines.iter().map(|line| line + "\n"));
        let errors = self.errors.take().map(|errors| errors.join().unwrap()).unwrap_or_default();
        Ended { status, output, errors }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of a test that has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one process of a group in the ignored test `test` of this binary.
pub fn start(test: &str, role: &str, [rank, world_size]: [usize; 2], port: u16) -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("RANK", rank.to_string())
        .env("LOCAL_RANK", rank.to_string())
        .env("WORLD_SIZE", world_size.to_string())
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .env("OMP_NUM_THREADS", "1")
        .env_remove("TORCHELASTIC_RUN_ID")
        .env_remove("TORCHELASTIC_USE_AGENT_STORE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut errors = child.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    Process { rank, child, lines, read: String::new(), errors: Some(errors) }
}

/// Starts all processes of a group.
pub fn start_all(test: &str, role: &str, world_size: usize) -> Vec<Process> {
    let port = free_port();
    (0..world_size).map(|rank| start(test, role, [rank, world_size], port)).collect()
}
