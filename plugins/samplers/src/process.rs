//! A server that runs as long as this program.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

/// Lines of the log that an error quotes.
const QUOTED: usize = 8;

/// Runs the command, and ends it when standard input ends: with this program, however that ends.
const GUARD: &str = r#"exec 3<&0
"$@" 3<&- </dev/null & server=$!
(read -r _ <&3; kill "$server" 2>/dev/null; sleep 20; kill -9 "$server" 2>/dev/null) & guard=$!
wait "$server"; status=$?
kill "$guard" 2>/dev/null
exit "$status""#;

/// A server's process. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a command whose output goes to a file.
    pub(crate) fn start(
        command: &[String],
        env: &BTreeMap<String, String>,
        log: &Path,
    ) -> io::Result<Self> {
        let file = File::create(log)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", GUARD, "sh"]).args(command).envs(env);
        shell.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        // A Ctrl-C is for this program, which may need the server to end in order.
        #[cfg(unix)]
        shell.process_group(0);
        Ok(Self { child: shell.spawn()?, log: log.to_owned() })
    }

    /// Returns why it has ended; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = match self.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let said = fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.trim_end().lines().collect();
        let tail = lines[lines.len().saturating_sub(QUOTED)..].join("\n");
        Some(format!("the server ended with {status}; the end of {}:\n{tail}", self.log.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn command(text: &str) -> Vec<String> {
        ["sh", "-c", text].map(str::to_owned).into()
    }

    #[tokio::test]
    async fn a_server_ends_with_its_owner_and_one_that_ends_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let (log, mark) = (dir.path().join("log"), dir.path().join("mark"));
        let text =
            format!("trap 'echo bye > {}; exit 0' TERM; while :; do sleep 0.05; done", mark.display());
        let mut server = Server::start(&command(&text), &BTreeMap::new(), &log).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(server.ended(), None);
        drop(server);
        let started = Instant::now();
        while !mark.exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "it was not ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut server =
            Server::start(&command("echo no room >&2; exit 3"), &BTreeMap::new(), &log).unwrap();
        let started = Instant::now();
        let said = loop {
            if let Some(said) = server.ended() {
                break said;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "it runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(said.contains("exit status: 3") && said.ends_with("no room"), "{said}");
    }
}
