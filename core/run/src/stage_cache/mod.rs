//! Stages that runs have in common, computed once.
//!
//! Runs of a sweep begin alike: until their configs make a difference, the same model answers the same questions
//! with the same seeds. A [`StageCache`] is a folder in which a run leaves each stage that it has completed, under
//! a name made of everything that the stage's result depends on ([`sections`]): its seed and iteration, the sections
//! of the config that it reads, the fingerprints of weights, frames and encoder, the code, and the content of what
//! earlier stages left. A run that comes to a stage of that name takes it over, to the byte.
//!
//! Names are made of contents, not of what should lead to them: where a device does not repeat its results to the
//! bit, two runs part ways at the first difference and share nothing after it, instead of one judging the other's
//! answers.
//!
//! ```text
//! DIR/v1/3f/3f…/  entry.json, and results.jsonl quarantine.jsonl, or metrics.jsonl checkpoint/
//! DIR/v1/3f/3f….lock
//! ```
//!
//! Of runs that want the same stage at once, one computes and the others wait for it; the lock of one that dies is
//! free. Where a file system knows no locks, nothing is shared. Checkpoints are hard links where the folder lies on
//! the run's file system. The folder can be removed at any time that no run uses it.

mod entry;
mod recipe;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(crate) use entry::{CHECKPOINT, METRICS, Made, QUARANTINE, RESULTS, link_tree};
pub use recipe::sections;
pub(crate) use recipe::{Ingredients, name};

use isr_api::{Error, Fingerprint};

use crate::guard::unless_cancelled;
use crate::store::{PendingDir, write_json};

/// The version of the entries' form; another version has another folder.
const VERSION: &str = "v1";

/// Longest pause between two looks at another run's progress.
const PAUSE: Duration = Duration::from_millis(500);

/// A folder of stages that runs share.
#[derive(Clone, Debug)]
pub struct StageCache {
    dir: PathBuf,
    pub(crate) settings: Value,
    pub(crate) code: Fingerprint,
}

/// What is to be done about a stage.
pub(crate) enum Turn {
    /// Compute it; there is no cache, or it cannot be used.
    Alone,
    /// Another run left it in this folder.
    Taken(PathBuf, Made),
    /// Compute it and leave it to others, who wait meanwhile.
    Mine(Claim),
}

/// The right to leave a stage.
pub(crate) struct Claim {
    path: PathBuf,
    _lock: File,
}

impl StageCache {
    /// The cache in `dir` for a run with these resolved settings. `code` stands for what computes: runs of another
    /// program share nothing.
    pub fn new(dir: impl Into<PathBuf>, settings: Value, code: Fingerprint) -> Self {
        Self { dir: dir.into(), settings, code }
    }

    /// Finds a stage, or the right to compute it; waits while another run does.
    pub(crate) async fn turn(&self, name: &Fingerprint, cancel: &CancellationToken) -> Result<Turn, Error> {
        let folder = self.dir.join(VERSION).join(&name.as_str()[..2]);
        let path = folder.join(name.as_str());
        let lock =
            fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(format!("{name}.lock"))));
        let lock = match lock {
            Ok(lock) => lock,
            Err(error) => return Ok(unusable(&path, &error)),
        };
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(made) = entry::read(&path) {
                return Ok(Turn::Taken(path, made));
            }
            match lock.try_lock() {
                // The run that had it may have left the stage since.
                Ok(()) => {
                    return Ok(match entry::read(&path) {
                        Some(made) => Turn::Taken(path, made),
                        None => Turn::Mine(Claim { path, _lock: lock }),
                    });
                }
                Err(TryLockError::WouldBlock) => {
                    tracing::debug!(stage = %name, "another run is at this stage");
                    unless_cancelled(cancel, tokio::time::sleep(pause)).await?;
                    pause = (pause * 2).min(PAUSE);
                }
                Err(TryLockError::Error(error)) => return Ok(unusable(&path, &error)),
            }
        }
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Turn {
    tracing::warn!(path = %path.display(), %error, "this stage is not shared");
    Turn::Alone
}

impl Turn {
    /// Leaves the stage to others, if that is this run's to do. `fill` writes it into a folder. A cache that cannot
    /// be written is no reason to stop a run.
    pub(crate) fn leave(self, made: &Made, fill: impl FnOnce(&Path) -> Result<(), Error>) {
        let Self::Mine(claim) = self else { return };
        let leave = || {
            let pending = PendingDir::create(&claim.path)?;
            fill(pending.dir())?;
            write_json(&pending.dir().join(entry::MADE), made)?;
            pending.publish()
        };
        if let Err(error) = leave() {
            tracing::warn!(%error, "this stage is not shared");
        }
    }
}
