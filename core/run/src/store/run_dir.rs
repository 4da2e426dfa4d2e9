//! [`RunDir`]: layout and lock of a run directory, and whether a config may resume the run.

use std::fs::{self, File};
#[cfg(unix)]
use std::io;
use std::path::{Path, PathBuf};

use isr_api::Error;
use isr_config::{difference, with_current_names, without_former_defaults};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::atomic::write_atomic;
use super::files::create_dir_here;
use super::lock::DirLock;

/// Config keys that may change when a run is resumed, since results do not depend on them.
const MAY_CHANGE: [&str; 15] = [
    "plugins",
    "observers",
    "sampler",
    "loop.iterations",
    "loop.concurrency",
    "loop.feature_cache_mb",
    "loop.feature_cache_dir",
    "loop.feature_cache_gb",
    "loop.quarantine_limit",
    "train.snapshot_every",
    "training.quarantine_limit",
    "training.feature_cache_mb",
    "training.feature_cache_dir",
    "training.feature_cache_gb",
    "training.snapshot_every",
];

/// Files whose presence shows that a run or a supervised training has produced results.
const RESULTS: [&str; 4] = ["fingerprints.json", "summary.json", "metrics.jsonl", "checkpoint"];

/// A run directory, locked against other processes until dropped.
pub struct RunDir {
    path: PathBuf,
    /// The directory itself, wherever it is by now.
    opened: Option<File>,
    _lock: Option<DirLock>,
}

impl RunDir {
    /// Creates the directory, or opens it to resume the run. `settings` is the resolved config, `toml` its text for
    /// `config.toml`.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process uses the directory; [`Error::OtherRun`] where the run in it was
    /// started with another config.
    pub fn open(path: &Path, settings: &Value, toml: &str) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|error| Error::io("create", path, error))?;
        // Directories cannot be opened everywhere.
        let opened = File::open(path).ok();
        let dir = Self { path: path.to_owned(), opened, _lock: Some(lock_dir(path)?) };
        if let Some(difference) = config_difference(path, settings)? {
            return Err(Error::OtherRun { path: dir.path, difference });
        }
        write_atomic(&dir.path.join("config.toml"), toml.as_bytes())?;
        Ok(dir)
    }

    /// Opens the directory of a run that another process of the same group has [opened](Self::open), which holds the lock
    /// and writes the files that all share.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no such directory: the processes do not see the same file system.
    pub fn join(path: &Path) -> Result<Self, Error> {
        let opened = File::open(path).map_err(|error| Error::io("open", path, error))?;
        Ok(Self { path: path.to_owned(), opened: Some(opened), _lock: None })
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of an iteration, and creates it if necessary. Iteration 0 is the evaluation of the
    /// initial policy.
    ///
    /// # Errors
    /// [`Error::Removed`] if the run directory is gone; [`Error::Io`] for a path that is a symbolic link.
    pub fn iteration(&self, iteration: u32) -> Result<PathBuf, Error> {
        self.check_present()?;
        let path = iteration_dir(&self.path, iteration);
        create_dir_here(&path)?;
        Ok(path)
    }

    /// Checks that the directory is the one that was opened.
    ///
    /// # Errors
    /// [`Error::Removed`] if it was removed, moved or replaced since.
    pub fn check_present(&self) -> Result<(), Error> {
        match &self.opened {
            Some(opened) if !is_at(opened, &self.path) => Err(Error::Removed { path: self.path.clone() }),
            _ => Ok(()),
        }
    }
}

/// Whether an open file is the one at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |there: fs::Metadata| -> io::Result<bool> {
        let here = file.metadata()?;
        Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
    };
    fs::metadata(path).and_then(same).unwrap_or(false)
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Returns the first difference between a config and that of the run in `path`, with both values; `None` if the
/// config may resume the run. A run without results may be resumed with any config.
///
/// # Errors
/// [`Error::Io`] or [`Error::Damaged`] for a `config.toml` that cannot be read.
pub fn config_difference(path: &Path, settings: &Value) -> Result<Option<String>, Error> {
    let config = path.join("config.toml");
    if !config.exists() || !RESULTS.iter().any(|name| path.join(name).exists()) {
        return Ok(None);
    }
    let text = fs::read_to_string(&config).map_err(|error| Error::io("read", &config, error))?;
    let old: Value = toml::from_str(&text)
        .map_err(|error| Error::Damaged { path: config, reason: error.to_string() })?;
    let old = without_former_defaults(with_current_names(old));
    Ok(difference(&old, &without_former_defaults(settings.clone()), &MAY_CHANGE))
}

/// Returns the path of an iteration's directory.
pub fn iteration_dir(run: &Path, iteration: u32) -> PathBuf {
    run.join(format!("iteration-{iteration:02}"))
}

/// Reads a JSON file; `None` if it does not exist.
///
/// # Errors
/// [`Error::Damaged`] if it does not parse.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let damaged =
        |error: serde_json::Error| Error::Damaged { path: path.to_owned(), reason: error.to_string() };
    serde_json::from_str(&text).map(Some).map_err(damaged)
}

/// Writes a JSON file atomically.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value);
    let mut text = text.map_err(|error| Error::io("write", path, error.into()))?;
    text.push('\n');
    write_atomic(path, text.as_bytes())
}

/// Locks a directory against other processes, until the returned lock is dropped. On a file system without locks
/// this warns, and holds a lease instead.
///
/// # Errors
/// [`Error::Locked`] while another process holds the lock; [`Error::Io`] for a `.lock` that is a symbolic link.
pub fn lock_dir(dir: &Path) -> Result<DirLock, Error> {
    match DirLock::try_take(dir) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::Locked { path: dir.to_owned() }),
        Err(error) => Err(Error::io("lock", dir.join(".lock"), error)),
    }
}
