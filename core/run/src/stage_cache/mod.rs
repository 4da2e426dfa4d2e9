//! A cache of stage results that several runs share.
//!
//! The runs of a sweep start alike: until their configs make a difference, the same model answers the same
//! instructions with the same seeds. A [`StageCache`] is a directory into which a run publishes each completed
//! stage under a key: a digest of everything that the result depends on ([`sections`]), which is seed and
//! iteration, the config sections that the stage reads, the fingerprints of policy, video reader and encoder, the
//! program, the content of the videos, and that of the results of earlier stages. A run that reaches a stage with the same key reads
//! the published result, byte for byte.
//!
//! An entry carries a digest of its files, and one that differs from it is computed anew.
//!
//! Keys are digests of contents. On a device that is not deterministic to the bit, two runs therefore diverge at
//! their first difference and share nothing after it; no run judges another run's answers.
//!
//! ```text
//! DIR/v1/3f/3f…/  entry.json, and results.jsonl quarantine.jsonl, or metrics.jsonl checkpoint/
//! DIR/v1/3f/3f….lock
//! ```
//!
//! # Concurrency
//! When several runs need the same stage, one holds its lock (a lease) and computes, the others wait. The
//! operating system releases the lock of a process that dies. On a file system without locks runs read what others
//! have published, and publish nothing. Checkpoints are hard links where the cache lies on the run's file system, else copies. The directory
//! may be deleted whenever no run uses it.

mod entry;
mod key;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isr_api::{Error, Fingerprint};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::guard::unless_cancelled;
use crate::store::{FileLock, PendingDir, write_json};

pub(crate) use entry::{CHECKPOINT, EntryMeta, METRICS, QUARANTINE, RESULTS, link_tree};
pub use key::sections;
pub(crate) use key::{CacheKeyInputs, cache_key};

/// Version of the entries' layout; each version has a folder of its own.
const VERSION: &str = "v1";

/// Longest pause between two attempts to get a lock.
const PAUSE: Duration = Duration::from_millis(500);

/// A directory of stage results that runs share.
#[derive(Clone, Debug)]
pub struct StageCache {
    dir: PathBuf,
    pub(crate) settings: Value,
    pub(crate) code: Fingerprint,
}

/// The outcome of looking a stage up.
pub(crate) enum Lookup {
    /// No cache, or one that cannot be used: compute the stage, publish nothing.
    Disabled,
    /// A published result: its directory and metadata.
    Hit(PathBuf, EntryMeta),
    /// No result yet: compute the stage and publish it under the lease.
    Miss(Lease),
}

/// The exclusive right to publish one stage, held until dropped.
pub(crate) struct Lease {
    path: PathBuf,
    _lock: FileLock,
}

impl StageCache {
    /// Opens the cache in `dir` for a run with these resolved settings; nothing is created yet. `code`
    /// identifies the program: runs of different programs share nothing.
    pub fn new(dir: impl Into<PathBuf>, settings: Value, code: Fingerprint) -> Self {
        Self { dir: dir.into(), settings, code }
    }

    /// Looks a key up; waits while another run holds its lease.
    pub(crate) async fn lookup(
        &self,
        key: &Fingerprint,
        cancel: &CancellationToken,
    ) -> Result<Lookup, Error> {
        let folder = self.dir.join(VERSION).join(&key.as_str()[..2]);
        let path = folder.join(key.as_str());
        if let Err(error) = fs::create_dir_all(&folder) {
            return Ok(disabled(&path, &error));
        }
        let lock = folder.join(format!("{key}.lock"));
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(meta) = entry::read(&path) {
                return Ok(Lookup::Hit(path, meta));
            }
            match FileLock::try_take(&lock) {
                // The previous holder may have published between the read and the lock.
                Ok(Some(lock)) => {
                    return Ok(match entry::read(&path) {
                        Some(meta) => Lookup::Hit(path, meta),
                        None if lock.excludes_others() => Lookup::Miss(Lease { path, _lock: lock }),
                        // Two runs may be at this stage, and only one may publish.
                        None => Lookup::Disabled,
                    });
                }
                Ok(None) => {
                    tracing::debug!(stage = %key, "another run is at this stage");
                    unless_cancelled(cancel, tokio::time::sleep(pause)).await?;
                    pause = (pause * 2).min(PAUSE);
                }
                Err(error) => return Ok(disabled(&path, &error)),
            }
        }
    }
}

fn disabled(path: &Path, error: &std::io::Error) -> Lookup {
    tracing::warn!(path = %path.display(), %error, "this stage is not shared");
    Lookup::Disabled
}

impl Lookup {
    /// After a miss, publishes the result, which `fill` writes into a directory. Errors are logged and do not
    /// stop the run.
    pub(crate) fn publish(self, meta: &EntryMeta, fill: impl FnOnce(&Path) -> Result<(), Error>) {
        let Self::Miss(lease) = self else { return };
        let publish = || {
            let pending = PendingDir::create(&lease.path)?;
            fill(pending.dir())?;
            let digest =
                entry::digest(pending.dir()).map_err(|error| Error::io("read", &lease.path, error))?;
            let meta = EntryMeta { digest: Some(digest), ..meta.clone() };
            write_json(&pending.dir().join(entry::META), &meta)?;
            pending.publish()
        };
        if let Err(error) = publish() {
            tracing::warn!(%error, "this stage is not shared");
        }
    }
}
