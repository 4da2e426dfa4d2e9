//! Locks of files and folders against other processes.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::files::open_here;
use super::lease::{BEAT, Lease};

/// An exclusive lock on a file, released when dropped or when the process ends.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    excludes: bool,
}

impl FileLock {
    /// Opens or creates the lock file and takes the lock; `None` while another process holds it.
    ///
    /// The file is opened for reading and writing, as locks over NFS require, and its content is left alone. On a
    /// file system without locks (Lustre without `-o flock`, some NFS and FUSE mounts) this warns, and returns a lock
    /// that [excludes](Self::excludes_others) nobody.
    ///
    /// # Errors
    /// A lock file that cannot be opened, or is a symbolic link.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = open_here(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file, excludes: true })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if has_no_locks(&error) => {
                warn_once(path, &error);
                Ok(Some(Self { file, excludes: false }))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns whether the file system keeps other processes from taking the lock.
    pub fn excludes_others(&self) -> bool {
        self.excludes
    }
}

/// An exclusive lock on a directory, released when dropped: of its file `.lock`, and on a file system without locks of a
/// lease beside it, which a process that was killed leaves behind for some 20 s.
#[derive(Debug)]
pub struct DirLock {
    _file: FileLock,
    _lease: Option<Lease>,
}

impl DirLock {
    /// Takes the lock; `None` while another process holds it.
    ///
    /// # Errors
    /// A lock file or lease that cannot be opened, or is a symbolic link.
    pub(super) fn try_take(dir: &Path) -> io::Result<Option<Self>> {
        let Some(file) = FileLock::try_take(&dir.join(".lock"))? else { return Ok(None) };
        if file.excludes_others() {
            return Ok(Some(Self { _file: file, _lease: None }));
        }
        let lease = Lease::try_take(&dir.join(".lease"), BEAT)?;
        Ok(lease.map(|lease| Self { _file: file, _lease: Some(lease) }))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file would release the lock only once no process that is being started has a copy of it.
        let _ = self.file.unlock();
    }
}

/// Says it of one lock file; a run takes many.
fn warn_once(path: &Path, error: &io::Error) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        let path = path.display();
        tracing::warn!(
            %path, %error,
            "this file system has no locks; run directories are held by a lease, a file that their process renews"
        );
    }
}

/// Whether the error of `flock(2)` says that the file system has no locks. NFS mounts say `EBADF` or `ENOLCK`.
fn has_no_locks(error: &io::Error) -> bool {
    let codes = [libc::ENOSYS, libc::ENOTSUP, libc::EOPNOTSUPP, libc::ENOLCK, libc::EBADF];
    error.kind() == ErrorKind::Unsupported || error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_excludes_and_leaves_the_file_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        std::fs::write(&path, "kept").unwrap();
        let held = FileLock::try_take(&path).unwrap().unwrap();
        assert!(held.excludes_others());
        assert!(FileLock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(FileLock::try_take(&path).unwrap().is_some());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    }

    #[test]
    fn every_answer_of_a_file_system_without_locks_is_known() {
        for code in [libc::ENOSYS, libc::EOPNOTSUPP, libc::ENOLCK, libc::EBADF] {
            assert!(has_no_locks(&io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(!has_no_locks(&io::Error::from_raw_os_error(libc::EACCES)));
    }
}
