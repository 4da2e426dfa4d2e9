//! The directory of entries: paths, sizes, ages, eviction.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use isr_api::Error;

use super::entry::ASIDE;

/// Version of the entries' format; each version has a directory of its own.
const VERSION: &str = "v1";

/// Extension of entries.
const ENTRY: &str = "safetensors";

/// Age at which an unfinished file is taken for that of a dead process.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Size and age of a feature cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Number of entries.
    pub entries: usize,
    /// Total size in bytes.
    pub bytes: u64,
    /// Last use of the least recently used entry; `None` for an empty cache.
    pub oldest: Option<SystemTime>,
    /// Last use of the most recently used entry; `None` for an empty cache.
    pub newest: Option<SystemTime>,
}

struct Found {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Returns size and age of the cache in `dir`; zeros if the directory does not exist.
///
/// # Errors
/// [`Error::Io`] for a directory that cannot be read.
pub fn stats(dir: &Path) -> Result<CacheStats, Error> {
    let mut stats = CacheStats::default();
    for Found { bytes, used, .. } in entries(dir, ENTRY)? {
        stats.entries += 1;
        stats.bytes += bytes;
        stats.oldest = Some(stats.oldest.map_or(used, |oldest| oldest.min(used)));
        stats.newest = Some(stats.newest.map_or(used, |newest| newest.max(used)));
    }
    Ok(stats)
}

/// Removes all entries and no other files; returns the statistics from before. Safe while runs use the cache: they
/// recompute the features.
///
/// # Errors
/// [`Error::Io`] for a directory that cannot be read or an entry that cannot be removed.
pub fn clear(dir: &Path) -> Result<CacheStats, Error> {
    let stats = stats(dir)?;
    for Found { path, .. } in entries(dir, ENTRY)?.into_iter().chain(entries(dir, ASIDE)?) {
        remove(&path)?;
    }
    for folder in folders(dir)?.into_iter().chain([dir.join(VERSION)]) {
        // One that is not empty stays.
        let _ = fs::remove_dir(folder);
    }
    Ok(stats)
}

/// Path of the entry with this name.
pub(super) fn path(dir: &Path, name: &str) -> PathBuf {
    let group = name.get(..2).unwrap_or(name);
    dir.join(VERSION).join(group).join(name).with_extension(ENTRY)
}

/// Sets the time of last use. Without it the entry may be evicted too early.
pub(super) fn touch(path: &Path) {
    let file = File::options().write(true).open(path);
    if let Err(error) = file.and_then(|file| file.set_modified(SystemTime::now())) {
        tracing::debug!(path = %path.display(), %error, "its use cannot be noted");
    }
}

/// If the cache exceeds the budget (bytes), evicts the least recently used entries down to nine tenths of it. Also
/// removes unfinished files of dead processes.
pub(super) fn evict(dir: &Path, budget: u64) {
    let Ok(mut found) = entries(dir, ENTRY) else { return };
    let now = SystemTime::now();
    let is_abandoned = |it: &Found| now.duration_since(it.used).is_ok_and(|age| age > ABANDONED);
    for Found { path, .. } in entries(dir, ASIDE).unwrap_or_default().into_iter().filter(is_abandoned) {
        let _ = remove(&path);
    }
    let mut total: u64 = found.iter().map(|entry| entry.bytes).sum();
    if total <= budget {
        return;
    }
    found.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    for Found { path, bytes, .. } in found {
        if total <= budget / 10 * 9 {
            return;
        }
        if remove(&path).is_ok() {
            total -= bytes;
        }
    }
}

/// Files with this extension in the cache's directories, without those that disappear meanwhile.
fn entries(dir: &Path, ending: &str) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for folder in folders(dir)? {
        for path in children(&folder)? {
            let Ok(data) = path.symlink_metadata() else { continue };
            if data.is_file() && path.extension().is_some_and(|it| it == ending) {
                let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push(Found { path, bytes: data.len(), used });
            }
        }
    }
    Ok(found)
}

/// The directories `DIR/v1/3f`.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_group = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && path.is_dir()
    };
    Ok(children(&dir.join(VERSION))?.into_iter().filter(is_group).collect())
}

fn children(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read", folder, error)),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}
