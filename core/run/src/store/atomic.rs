//! Atomic writes of files and directories: write to a temporary name, fsync, rename.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use isr_api::Error;

/// Replaces the content of a file atomically and durably.
///
/// # Errors
/// [`Error::Io`]; the file is then unchanged.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let aside = with_suffix(path, ".tmp");
    let mut file = File::create(&aside).map_err(|error| Error::io("create", &aside, error))?;
    file.write_all(bytes).map_err(|error| Error::io("write", &aside, error))?;
    file.sync_all().map_err(|error| Error::io("write", &aside, error))?;
    fs::rename(&aside, path).map_err(|error| Error::io("write", path, error))?;
    sync_parent(path)
}

/// A directory under construction at a temporary path, published by a rename.
pub struct PendingDir {
    aside: PathBuf,
    path: PathBuf,
}

impl PendingDir {
    /// Creates an empty directory to be published at `path`. Removes the remains of an earlier attempt.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let aside = with_suffix(path, ".tmp");
        remove_dir(&aside)?;
        remove_dir(&with_suffix(path, ".old"))?;
        fs::create_dir_all(&aside).map_err(|error| Error::io("create", &aside, error))?;
        Ok(Self { aside, path: path.to_owned() })
    }

    /// Returns the temporary path to write to.
    pub fn dir(&self) -> &Path {
        &self.aside
    }

    /// Flushes the directory to disk and moves it to its final path, replacing an existing one. A concurrent reader
    /// sees the old directory, the new one, or (between two renames) none, but never a partial one.
    pub fn publish(self) -> Result<(), Error> {
        sync_tree(&self.aside)?;
        let replaced = with_suffix(&self.path, ".old");
        if self.path.exists() {
            fs::rename(&self.path, &replaced).map_err(|error| Error::io("rename", &self.path, error))?;
        }
        fs::rename(&self.aside, &self.path).map_err(|error| Error::io("write", &self.path, error))?;
        sync_parent(&self.path)?;
        remove_dir(&replaced)
    }
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
            file.sync_all().map_err(|error| Error::io("write", &path, error))?;
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
