//! An on-disk cache of visual features, shared by iterations, stages and runs.
//!
//! An entry is a safetensors file named by a digest of everything that determines the features: the bytes of the
//! video, the reader's frame sampling, the encoder (its fingerprint covers weights and preprocessing), and the
//! encoder's device key; where frames are drawn or cropped at random, also the frames. A moved or copied video therefore
//! hits, and a changed one misses.
//!
//! ```text
//! DIR/v1/3f/3f6c...9a.safetensors     tensor `features`, F32 or BF16, [frames, tokens, dim]
//! ```
//!
//! # Concurrency and failures
//! Any number of processes may share a directory. An entry is written to a temporary file and renamed, so it
//! appears atomically. It carries digests of its data and of the decoded frames; an entry that does not match them is
//! recomputed and replaced. An entry may disappear at any time, which is a miss. The cache never changes results and
//! never fails a run; write errors are logged once.
//!
//! # Eviction
//! The least recently used entries are evicted when the directory exceeds its limit. The modification time of a file
//! is its time of last use. Each process scans the directory after writing a sixteenth of the limit, so N processes
//! may exceed the limit by N sixteenths for a while.

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

/// The cache key of one video's features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureKey {
    /// Digest of the bytes of the video.
    pub video: Fingerprint,
    /// Fingerprint of the video reader: decoding and frame sampling.
    pub reader: Fingerprint,
    /// Fingerprint of the encoder.
    pub encoder: Fingerprint,
    /// Device key of the encoder ([`isr_api::VideoEncoder::device_key`]).
    pub device_key: String,
    /// Digest of the decoded frames. Checked on reading: another version of the decoder may decode other frames from the
    /// same bytes.
    pub frames: Fingerprint,
    /// Whether the reader's sampling leaves open which frames of the video these are: they were drawn, or cropped at
    /// random. Their digest is then part of the file name.
    pub several: bool,
}

impl FeatureKey {
    /// Name of the entry.
    fn name(&self) -> String {
        let mut name = FingerprintBuilder::default();
        for part in [&self.video, &self.reader, &self.encoder] {
            name.update(part.as_str().as_bytes());
        }
        name.update(self.device_key.as_bytes());
        if self.several {
            name.update(self.frames.as_str().as_bytes());
        }
        name.finish().to_string()
    }

    fn labels(&self) -> Labels {
        let texts = [
            ("video", self.video.as_str()),
            ("contract", self.reader.as_str()),
            ("encoder", self.encoder.as_str()),
            ("computed_on", &self.device_key),
            ("frames", self.frames.as_str()),
        ];
        texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
    }
}

/// A directory of visual features with a size limit. Cheap to clone. All calls block.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    dir: Arc<Path>,
    budget: u64,
    /// Bytes written since the last scan of the directory.
    written: Arc<AtomicU64>,
    complained: Arc<AtomicBool>,
}

impl FeatureCache {
    /// Creates a cache in `dir` of at most `budget` bytes. The directory is created on the first write.
    pub fn new(dir: &Path, budget: u64) -> Self {
        Self { dir: dir.into(), budget, written: Arc::default(), complained: Arc::default() }
    }

    /// Creates the cache of a config's `feature_cache_dir` (`auto` is [`default_dir`]) and `feature_cache_gb`. `None`
    /// without a directory.
    pub fn configured(dir: Option<&Path>, gibibytes: f64) -> Option<Self> {
        let dir = feature_cache_dir(dir?)?;
        Some(Self::new(&dir, (gibibytes * f64::from(1 << 30)) as u64))
    }

    /// Creates the cache of a loop's config; `None` if it has none.
    pub fn of_loop(settings: &LoopConfig) -> Option<Self> {
        Self::configured(settings.feature_cache_dir.as_deref(), settings.feature_cache_gb)
    }

    /// Returns the cached features; `None` on a miss or a damaged entry. Updates the time of last use.
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

    /// Stores features, and evicts others beyond the limit. Logs the first error.
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

    /// Scans the directory at the first write and after each sixteenth of the limit.
    fn bound(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before == 0 || before + bytes > self.budget / 16 {
            // Bytes written during the scan count towards the next one.
            self.written.store(1, Ordering::Relaxed);
            folder::evict(&self.dir, self.budget);
        }
    }

    fn path(&self, key: &FeatureKey) -> PathBuf {
        folder::path(&self.dir, &key.name())
    }
}
