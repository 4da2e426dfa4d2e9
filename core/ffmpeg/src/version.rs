//! Version of the program `ffmpeg`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::run::clean;

/// Longest time for a program to say its version.
const PATIENCE: Duration = Duration::from_secs(20);

static KNOWN: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());

/// Returns the first line of `program -version`, such as `ffmpeg version 7.0.2-static ...`; empty if the program
/// does not say it within 20 seconds. Runs the program once per process, which blocks for some 30 ms.
pub fn version(program: &Path) -> String {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(program.to_owned()).or_insert_with(|| ask(program).unwrap_or_default()).clone()
}

fn ask(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    clean(&mut command);
    command.arg("-version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let start = Instant::now();
    // What it says fits into the pipe, so it need not be read meanwhile.
    while child.try_wait().ok()?.is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().ok()?;
            child.wait().ok()?;
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut text = String::new();
    child.stdout?.take(4096).read_to_string(&mut text).ok()?;
    Some(text.lines().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_one_line() {
        let line = version(&crate::locate().unwrap());
        assert!(line.starts_with("ffmpeg version ") && !line.contains('\n'), "{line}");
        assert_eq!(version(Path::new("/nowhere/ffmpeg")), "");
    }
}
