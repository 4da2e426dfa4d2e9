//! Visual features on disk: encoded once for all iterations, stages and runs.
//!
//! An entry is a safetensors file named by the fingerprint of all that features are made from: the bytes
//! of the video, the reader's sampling contract, the encoder (whose fingerprint covers weights and
//! preprocessing), and what the encoder is computed on. So a video that is moved or copied is found
//! again, and one that changes is not mistaken for what it was.
//!
//! ```text
//! DIR/v1/3f/3f6c...9a.safetensors     tensor `features`, F32 or BF16, [frames, tokens, dim]
//! ```
//!
//! Any number of processes may share a folder. An entry is written aside and renamed, so that it appears
//! whole; it carries digests of its data and of the decoded frames, and what does not match them is
//! computed again, and replaced. An entry may vanish at any time: then it is a miss. So the cache never
//! changes results and never fails a run; what it cannot write, it logs once.
//!
//! The entries that were not used for the longest are removed when the folder outgrows its bound. A use
//! sets the file's time of modification. Each process looks through the folder when it has written a
//! sixteenth of the bound, so that N processes may exceed it by N sixteenths for a while.

mod entry;
mod folder;
mod key;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use folder::{CacheStats, clear, stats};
pub(crate) use key::{frames_digest, video_digest};

use entry::Labels;
use isr_api::{Fingerprint, FingerprintBuilder, VisualFeatures};
pub use isr_config::default_feature_cache_dir as default_dir;
use isr_config::{LoopConfig, feature_cache_dir};

/// What the features of one video are named by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureKey {
    /// Digest of the video's bytes.
    pub video: Fingerprint,
    /// The reader's sampling contract.
    pub contract: Fingerprint,
    /// The encoder.
    pub encoder: Fingerprint,
    /// What it is computed on, as [`isr_api::VideoEncoder::device_key`] names it.
    pub device_key: String,
    /// Digest of the decoded frames. It is no part of the name, and must match all the same: another
    /// version of the decoder may make other frames of the same bytes.
    pub frames: Fingerprint,
}

impl FeatureKey {
    /// The name of the entry.
    fn name(&self) -> String {
        let mut name = FingerprintBuilder::default();
        for part in [&self.video, &self.contract, &self.encoder] {
            name.update(part.as_str().as_bytes());
        }
        name.update(self.device_key.as_bytes());
        name.finish().to_string()
    }

    fn labels(&self) -> Labels {
        let texts = [
            ("video", self.video.as_str()),
            ("contract", self.contract.as_str()),
            ("encoder", self.encoder.as_str()),
            ("computed_on", &self.device_key),
            ("frames", self.frames.as_str()),
        ];
        texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
    }
}

/// A folder of visual features with a bound on its size. Cheap to clone. Every call blocks.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    dir: Arc<Path>,
    budget: u64,
    /// Bytes written since the folder was last looked through.
    written: Arc<AtomicU64>,
    complained: Arc<AtomicBool>,
}

impl FeatureCache {
    /// The cache in `dir`, of at most `budget` bytes. Nothing is touched until it is used.
    pub fn new(dir: &Path, budget: u64) -> Self {
        Self { dir: dir.into(), budget, written: Arc::default(), complained: Arc::default() }
    }

    /// The cache that a config asks for: in `dir`, where `auto` is the folder of the user's, and of so many
    /// GiB. None without a folder.
    pub fn configured(dir: Option<&Path>, gibibytes: f64) -> Option<Self> {
        let dir = feature_cache_dir(dir?)?;
        Some(Self::new(&dir, (gibibytes * f64::from(1 << 30)) as u64))
    }

    /// The cache that a loop's settings ask for.
    pub fn of_loop(settings: &LoopConfig) -> Option<Self> {
        Self::configured(settings.feature_cache_dir.as_deref(), settings.feature_cache_gb)
    }

    /// The features of that name, if they are there and undamaged.
    pub fn get(&self, key: &FeatureKey) -> Option<VisualFeatures> {
        let path = self.path(key);
        match entry::read(&path, &key.labels(), &key.encoder) {
            Ok(features) => {
                folder::touch(&path);
                Some(features)
            }
            Err(entry::Miss::Absent) => None,
            Err(entry::Miss::Unusable(reason)) => {
                let path = path.display();
                tracing::warn!(%path, %reason, "cached features cannot be used; they are computed again");
                None
            }
        }
    }

    /// Keeps features; the oldest others make room.
    pub fn put(&self, key: &FeatureKey, features: &VisualFeatures) {
        let path = self.path(key);
        match entry::write(&path, &key.labels(), features) {
            Ok(bytes) => self.bound(bytes),
            Err(error) if !self.complained.swap(true, Ordering::Relaxed) => {
                let path = path.display();
                tracing::warn!(%path, %error, "visual features cannot be kept on disk");
            }
            Err(_) => {}
        }
    }

    /// Looks through the folder at the first write, and after each sixteenth of the bound.
    fn bound(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before == 0 || before + bytes > self.budget / 16 {
            // What is written meanwhile counts towards the next look.
            self.written.store(1, Ordering::Relaxed);
            folder::evict(&self.dir, self.budget);
        }
    }

    fn path(&self, key: &FeatureKey) -> PathBuf {
        folder::path(&self.dir, &key.name())
    }
}
