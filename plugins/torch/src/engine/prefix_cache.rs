//! Cache of prompt prefixes: keys and values of prompts up to the end of their last video.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use isr_api::{FeatureType, Fingerprint, FingerprintBuilder, Frames, VideoInput, VisualFeatures};

use crate::model::Slot;
use crate::model::kv_cache::Prefix;

/// Least-recently-used cache of prompt prefixes, bounded by the bytes of their keys, values and slots. Videos are
/// known by a digest of their content, so an entry keeps no video alive, and a video that is decoded again finds its
/// prefix.
pub(crate) struct PrefixCache {
    /// In the order of their last use.
    entries: VecDeque<PrefixEntry>,
    /// Bytes of all entries.
    bytes: u64,
    /// Upper bound in bytes.
    limit: u64,
    digests: VideoDigests,
}

/// Key of a prefix: its slots, and the digest of each of its videos.
#[derive(PartialEq)]
pub(super) struct PrefixKey {
    slots: Vec<Slot>,
    videos: Vec<Fingerprint>,
}

/// A prefix with its key.
struct PrefixEntry {
    key: PrefixKey,
    prefix: Rc<Prefix>,
}

impl PrefixEntry {
    fn bytes(&self) -> u64 {
        self.prefix.bytes() + std::mem::size_of_val(self.key.slots.as_slice()) as u64
    }
}

impl PrefixCache {
    /// Creates an empty cache of at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit, digests: VideoDigests::default() }
    }

    /// Returns the key of slots and videos. With `own_tower`, the model encodes frames itself, and an encoder's features
    /// do not count.
    pub(super) fn key(&mut self, slots: &[Slot], scenes: &[VideoInput], own_tower: bool) -> PrefixKey {
        let videos = scenes.iter().map(|scene| self.digests.of(scene, own_tower)).collect();
        PrefixKey { slots: slots.to_vec(), videos }
    }

    /// Returns the bytes of all entries.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the upper bound in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Drops every entry; to be called when the weights change.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Finds the prefix of a key, and marks it as used.
    pub(super) fn find(&mut self, key: &PrefixKey) -> Option<Rc<Prefix>> {
        let at = self.entries.iter().position(|entry| entry.key == *key)?;
        let found = self.entries.remove(at)?;
        let prefix = Rc::clone(&found.prefix);
        self.entries.push_back(found);
        Some(prefix)
    }

    /// Inserts a prefix and evicts the least recently used ones above the limit. A prefix above the limit by
    /// itself is not cached.
    pub(super) fn insert(&mut self, key: PrefixKey, prefix: &Rc<Prefix>) {
        let entry = PrefixEntry { key, prefix: Rc::clone(prefix) };
        if entry.bytes() > self.limit {
            return;
        }
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.bytes > self.limit
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

/// Digests of videos by their address in memory, so that each is computed once for as long as the video lives. Weak
/// references reserve the address without keeping pixels or features.
#[derive(Default)]
struct VideoDigests {
    known: Vec<KnownVideo>,
}

struct KnownVideo {
    frames: Weak<Frames>,
    features: Option<Weak<VisualFeatures>>,
    digest: Fingerprint,
}

impl KnownVideo {
    fn is(&self, scene: &VideoInput) -> bool {
        let features = match (&self.features, &scene.features) {
            (Some(known), Some(given)) => std::ptr::eq(known.as_ptr(), Arc::as_ptr(given)),
            (None, None) => true,
            _ => false,
        };
        features && std::ptr::eq(self.frames.as_ptr(), Arc::as_ptr(&scene.frames))
    }
}

impl VideoDigests {
    fn of(&mut self, scene: &VideoInput, own_tower: bool) -> Fingerprint {
        if let Some(known) = self.known.iter().find(|known| known.is(scene)) {
            return known.digest.clone();
        }
        self.known.retain(|known| known.frames.strong_count() > 0);
        let digest = content_digest(scene, own_tower);
        let (frames, features) =
            (Arc::downgrade(&scene.frames), scene.features.as_ref().map(Arc::downgrade));
        self.known.push(KnownVideo { frames, features, digest: digest.clone() });
        digest
    }
}

/// Computes the digest of all that a prefix depends on: size and times of the frames, and features, or else pixels.
fn content_digest(scene: &VideoInput, own_tower: bool) -> Fingerprint {
    let Frames { width, height, rgb, timestamps, duration } = scene.frames.as_ref();
    let mut digest = FingerprintBuilder::default();
    digest.update(&width.to_le_bytes()).update(&height.to_le_bytes()).update(&duration.to_le_bytes());
    for time in timestamps {
        digest.update(&time.to_le_bytes());
    }
    match scene.features.as_deref().filter(|_| !own_tower) {
        Some(VisualFeatures { dtype, shape, bytes, .. }) => {
            let dtype: &[u8] = match dtype {
                FeatureType::F32 => b"f32",
                FeatureType::Bf16 => b"bf16",
            };
            digest.update(dtype);
            for size in shape {
                digest.update(&size.to_le_bytes());
            }
            digest.update(bytes);
        }
        None => {
            digest.update(b"rgb").update(rgb);
        }
    }
    digest.finish()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::model::kv_cache::KvCache;

    fn scene(pixel: u8) -> VideoInput {
        let frames = Frames::new(1, 1, vec![pixel; 3], vec![0.0]).unwrap();
        VideoInput { video: "a.mp4".into(), frames: Arc::new(frames), features: None }
    }

    /// A prefix of 2,048 bytes.
    fn prefix() -> Rc<Prefix> {
        let cache = KvCache::new(None, 1, &[1, 1, 256, 1], (Kind::Float, Device::Cpu)).unwrap();
        Rc::new(cache.into_prefix())
    }

    #[test]
    fn a_video_decoded_again_finds_its_prefix_and_an_entry_keeps_no_video_alive() {
        let mut cache = PrefixCache::new(10_000);
        let slots = [Slot::Token(1), Slot::Token(2)];
        let first = scene(7);
        let key = cache.key(&slots, std::slice::from_ref(&first), false);
        cache.insert(key, &prefix());
        assert_eq!(Arc::strong_count(&first.frames), 1, "the cache does not hold the video");
        drop(first);
        for (again, found) in [(scene(7), true), (scene(8), false)] {
            let key = cache.key(&slots, &[again], false);
            assert_eq!(cache.find(&key).is_some(), found);
        }
        let other = cache.key(&slots[..1], &[scene(7)], false);
        assert!(cache.find(&other).is_none());
        assert_eq!(cache.digests.known.len(), 1, "digests of dropped videos are forgotten");
    }

    #[test]
    fn features_decide_unless_the_model_encodes_frames_itself() {
        let featured = |pixel: u8, value: u8| {
            let bytes = vec![value; 4];
            let features =
                VisualFeatures::new(FeatureType::F32, [1, 1, 1], bytes, Fingerprint::of("it")).unwrap();
            VideoInput { features: Some(Arc::new(features)), ..scene(pixel) }
        };
        for own_tower in [false, true] {
            let digest = |pixel, value| content_digest(&featured(pixel, value), own_tower);
            assert_eq!(digest(1, 1) == digest(1, 2), own_tower);
            assert_eq!(digest(1, 1) == digest(2, 1), !own_tower);
        }
        assert_ne!(content_digest(&featured(1, 1), false), content_digest(&scene(1), false));
    }

    #[test]
    fn the_least_recently_used_entries_go_first_and_the_sum_is_kept() {
        let slots = [Slot::Token(1)];
        let size = prefix().bytes() + std::mem::size_of::<Slot>() as u64;
        let mut cache = PrefixCache::new(3 * size);
        let keys = |cache: &mut PrefixCache, pixel| cache.key(&slots, &[scene(pixel)], false);
        for pixel in 0..3 {
            let key = keys(&mut cache, pixel);
            cache.insert(key, &prefix());
        }
        let oldest = keys(&mut cache, 0);
        assert!(cache.find(&oldest).is_some());
        let key = keys(&mut cache, 3);
        cache.insert(key, &prefix());
        let kept: Vec<bool> = (0..4)
            .map(|pixel| {
                let key = keys(&mut cache, pixel);
                cache.find(&key).is_some()
            })
            .collect();
        assert_eq!((kept, cache.bytes), (vec![true, false, true, true], 3 * size));
        cache.clear();
        assert_eq!((cache.bytes, cache.entries.len()), (0, 0));
    }
}
