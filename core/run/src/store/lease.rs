//! Leases: exclusion by a file that its holder keeps changing, for file systems without locks.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant, SystemTime};

use super::files::refuse_link;

/// How often a holder changes its lease.
pub(super) const BEAT: Duration = Duration::from_secs(5);

/// Beats without a change after which a lease is taken for left behind. Clocks of machines are not compared.
const SILENT: u32 = 4;

/// A lease on a directory, given up when dropped. Unlike a lock it outlives a killed process, for [`SILENT`] beats.
#[derive(Debug)]
pub(super) struct Lease {
    path: PathBuf,
    name: String,
    stop: Option<Sender<()>>,
    beats: Option<JoinHandle<()>>,
}

impl Lease {
    /// Takes the lease; `None` while another process holds it. Waits some beats where there is one, to see whether it changes.
    ///
    /// # Errors
    /// A lease file that cannot be written, or is a symbolic link.
    pub(super) fn try_take(path: &Path, beat: Duration) -> io::Result<Option<Self>> {
        refuse_link(path)?;
        let name = unique();
        if !create(path, &name)? {
            let Some(left) = unchanged(path, beat * SILENT)? else { return Ok(None) };
            // Another process may have found the same.
            match fs::read_to_string(path) {
                Ok(now) if now == left => remove(path)?,
                _ => return Ok(None),
            }
            if !create(path, &name)? {
                return Ok(None);
            }
        }
        sleep(beat / 4);
        if !is_of(path, &name) {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        let (place, holder) = (path.to_owned(), name.clone());
        let beats = spawn(move || {
            let mut count = 0_u64;
            while stopped.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
                count += 1;
                if !is_of(&place, &holder) {
                    let path = place.display();
                    tracing::error!(%path, "another process has taken this directory over; stop one of them");
                    return;
                }
                if let Err(error) = fs::write(&place, content(&holder, count)) {
                    tracing::warn!(path = %place.display(), %error, "the lease cannot be renewed");
                }
            }
        });
        Ok(Some(Self { path: path.to_owned(), name, stop: Some(stop), beats: Some(beats) }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(beats) = self.beats.take() {
            let _ = beats.join();
        }
        if is_of(&self.path, &self.name) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A name that no other lease has.
fn unique() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}-{:?}", std::process::id(), now.as_nanos(), std::thread::current().id())
}

fn content(name: &str, beat: u64) -> String {
    format!("{name} {beat}\n")
}

fn is_of(path: &Path, name: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().next() == Some(name))
}

/// Creates the file; false where it exists.
fn create(path: &Path, name: &str) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(content(name, 0).as_bytes()).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the file, unless another process has.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the content of a lease that does not change within a time; `None` of one that does, or goes.
fn unchanged(path: &Path, within: Duration) -> io::Result<Option<String>> {
    let (before, start) = (fs::read_to_string(path)?, Instant::now());
    tracing::warn!(
        path = %path.display(), seconds = within.as_secs(),
        "there is a lease; waiting to see whether its process is alive"
    );
    while start.elapsed() < within {
        sleep(within / 20);
        if !fs::read_to_string(path).is_ok_and(|now| now == before) {
            return Ok(None);
        }
    }
    Ok(Some(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    #[test]
    fn a_lease_excludes_while_its_holder_lives_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lease");
        let held = Lease::try_take(&path, SHORT).unwrap().unwrap();
        assert!(Lease::try_take(&path, SHORT).unwrap().is_none());
        drop(held);
        assert!(!path.exists());
        assert!(Lease::try_take(&path, SHORT).unwrap().is_some());
    }

    #[test]
    fn a_lease_that_a_killed_process_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lease");
        fs::write(&path, "17-0 12\n").unwrap();
        let start = Instant::now();
        let held = Lease::try_take(&path, SHORT).unwrap();
        assert!(held.is_some() && start.elapsed() >= SHORT * SILENT);
    }

    #[test]
    fn of_several_that_wait_for_a_lease_that_was_left_one_gets_it() {
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(".lease");
            fs::write(&path, "17-0 12\n").unwrap();
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    let path = path.clone();
                    spawn(move || Lease::try_take(&path, SHORT).unwrap())
                })
                .collect();
            let held: Vec<_> = takers.into_iter().filter_map(|taker| taker.join().unwrap()).collect();
            assert!(held.len() <= 1, "{held:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lease");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(Lease::try_take(&path, SHORT).unwrap_err().to_string().contains("symbolic link"));
    }
}
