//! Atomic writes of files and directories: write to a temporary name, fsync, rename.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use isr_api::Error;

use super::files::{create_aside, refuse_link};
use super::space::write_error;

/// Replaces the content of a file atomically and durably.
///
/// # Errors
/// [`Error::Io`]; the file is then unchanged, and what was written aside is gone.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let aside = with_suffix(path, ".tmp");
    let mut file = create_aside(&aside).map_err(|error| Error::io("create", &aside, error))?;
    if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
        // A partial file would occupy a full disk.
        let _ = fs::remove_file(&aside);
        return Err(write_error(path, bytes.len() as u64, error));
    }
    fs::rename(&aside, path).map_err(|error| Error::io("write", path, error))?;
    sync_parent(path)
}

/// A directory under construction at a temporary path, published by a rename.
pub struct PendingDir {
    aside: PathBuf,
    path: PathBuf,
}

impl PendingDir {
    /// Creates an empty directory to be published at `path`. Removes the remains of an earlier attempt, and restores
    /// the directory at `path` if that attempt ended while it was being replaced.
    ///
    /// # Errors
    /// [`Error::Io`], also where the temporary path is a symbolic link.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let (aside, replaced) = (with_suffix(path, ".tmp"), with_suffix(path, ".old"));
        for place in [&aside, &replaced] {
            refuse_link(place).map_err(|error| Error::io("create", place, error))?;
        }
        if replaced.exists() && !path.exists() {
            fs::rename(&replaced, path).map_err(|error| Error::io("restore", path, error))?;
        }
        remove_dir(&aside)?;
        remove_dir(&replaced)?;
        fs::create_dir_all(&aside).map_err(|error| Error::io("create", &aside, error))?;
        Ok(Self { aside, path: path.to_owned() })
    }

    /// Returns the temporary path to write to.
    pub fn dir(&self) -> &Path {
        &self.aside
    }

    /// Flushes the directory to disk and moves it to its final path, replacing an existing one. A concurrent reader
    /// sees the old directory, the new one, or (between two renames) none, but never a partial one.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`]; an existing directory then stays, and the new one is removed.
    pub fn publish(self) -> Result<(), Error> {
        let replaced = with_suffix(&self.path, ".old");
        if let Err(error) = self.swap(&replaced) {
            if replaced.exists() && !self.path.exists() {
                let _ = fs::rename(&replaced, &self.path);
            }
            self.discard();
            return Err(error);
        }
        sync_parent(&self.path)?;
        remove_dir(&replaced)
    }

    fn swap(&self, replaced: &Path) -> Result<(), Error> {
        sync_tree(&self.aside)?;
        if self.path.exists() {
            fs::rename(&self.path, replaced).map_err(|error| Error::io("rename", &self.path, error))?;
        }
        fs::rename(&self.aside, &self.path).map_err(|error| Error::io("write", &self.path, error))
    }

    /// Removes the directory, since it will not be published; returns the bytes that were in it.
    pub(crate) fn discard(self) -> u64 {
        let bytes = tree_bytes(&self.aside).unwrap_or(0);
        // What stays is removed by the next attempt.
        let _ = remove_dir(&self.aside);
        bytes
    }
}

/// Returns the sizes of all files below a directory together.
pub(crate) fn tree_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let data = entry.metadata()?;
        bytes += if data.is_dir() { tree_bytes(&entry.path())? } else { data.len() };
    }
    Ok(bytes)
}

/// Removes a directory tree; succeeds if it does not exist.
pub fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Flushes all files and directories below a directory.
fn sync_tree(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(|error| Error::io("read", dir, error))? {
        let path = entry.map_err(|error| Error::io("read", dir, error))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            let file = File::open(&path).map_err(|error| Error::io("read", &path, error))?;
            file.sync_all().map_err(|error| write_error(&path, 0, error))?;
        }
    }
    sync_dir(dir)
}

/// Flushes the parent directory, which makes a rename durable.
fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Flushes a directory where the operating system can open one; elsewhere does nothing.
fn sync_dir(dir: &Path) -> Result<(), Error> {
    match File::open(dir) {
        Ok(file) => file.sync_all().map_err(|error| Error::io("write", dir, error)),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_survives_a_crash_amid_its_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        // `publish` has renamed the old directory, and not yet the new one.
        for (name, text) in [("checkpoint.old", "old"), ("checkpoint.tmp", "new")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("weights"), text).unwrap();
        }
        let pending = PendingDir::create(&path).unwrap();
        assert_eq!(fs::read_to_string(path.join("weights")).unwrap(), "old");
        fs::write(pending.dir().join("weights"), "newer").unwrap();
        pending.publish().unwrap();
        assert_eq!(fs::read_to_string(path.join("weights")).unwrap(), "newer");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
