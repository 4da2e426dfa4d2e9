//! Size, age and form of entries.

use std::fs;
use std::time::{Duration, SystemTime};

use isr_api::FeatureType;

use super::*;

fn key(name: &str) -> FeatureKey {
    let part = |what: &str| Fingerprint::of(format!("{what} {name}"));
    FeatureKey {
        video: part("video"),
        reader: part("contract"),
        encoder: part("encoder"),
        device_key: "cpu".to_owned(),
        frames: part("frames"),
        several: false,
    }
}

fn features(key: &FeatureKey, elements: usize) -> VisualFeatures {
    let bytes = (0..elements).flat_map(|index| (index as f32).to_le_bytes()).collect();
    VisualFeatures { dtype: FeatureType::F32, shape: [1, 1, elements], bytes, encoder: key.encoder.clone() }
}

/// Uses the entry as if it were some hours ago.
fn age(cache: &FeatureCache, key: &FeatureKey, hours: u64) {
    let file = fs::File::options().write(true).open(cache.path(key)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600 * hours)).unwrap();
}

#[test]
fn what_was_put_is_got_and_is_a_safetensors_file() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FeatureCache::new(dir.path(), 1 << 20);
    let key = key("a");
    assert_eq!(cache.get(&key), None);
    cache.put(&key, &features(&key, 3));
    assert_eq!(cache.get(&key), Some(features(&key, 3)));
    let bytes = fs::read(cache.path(&key)).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["video"], key.video.as_str());
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("features").unwrap().shape(), [1, 1, 3]);
}

#[test]
fn features_of_other_frames_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FeatureCache::new(dir.path(), 1 << 20);
    let key = key("a");
    cache.put(&key, &features(&key, 3));
    let other = FeatureKey { frames: Fingerprint::of("of a newer decoder"), ..key.clone() };
    assert_eq!(cache.path(&other), cache.path(&key));
    assert_eq!(cache.get(&other), None);
}

#[test]
fn of_drawn_frames_each_choice_has_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FeatureCache::new(dir.path(), 1 << 20);
    let one = FeatureKey { several: true, ..key("a") };
    let other = FeatureKey { frames: Fingerprint::of("of another draw"), ..one.clone() };
    cache.put(&one, &features(&one, 3));
    cache.put(&other, &features(&other, 4));
    assert_eq!(cache.get(&one), Some(features(&one, 3)));
    assert_eq!(cache.get(&other), Some(features(&other, 4)));
}

#[test]
fn the_name_of_an_entry_stays_the_same() {
    // Another name would leave the features that people have unused.
    assert_eq!(key("a").name(), NAME);
}

/// Name of the entry of `key("a")`, by the version before frames could be drawn.
const NAME: &str = "f05491fd55e8a91b63b5a06286a620ea";

#[test]
fn what_was_not_used_for_the_longest_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    // Four entries of about 4.7 kB fit, five do not.
    let budget = 20_000;
    let keys: Vec<FeatureKey> = (0..6).map(|index| key(&index.to_string())).collect();
    for (index, key) in keys.iter().take(4).enumerate() {
        let cache = FeatureCache::new(dir.path(), budget);
        cache.put(key, &features(key, 1100));
        age(&cache, key, 10 - index as u64);
    }
    let cache = FeatureCache::new(dir.path(), budget);
    assert!(cache.get(&keys[0]).is_some(), "this use makes it the newest");
    cache.put(&keys[4], &features(&keys[4], 1100));
    let there: Vec<bool> = keys.iter().map(|key| cache.path(key).exists()).collect();
    assert_eq!(there, [true, false, false, true, true, false]);
    assert!(stats(dir.path()).unwrap().bytes <= budget);
}

#[test]
fn many_writes_stay_within_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let (budget, one) = (100_000, 4_600);
    let cache = FeatureCache::new(dir.path(), budget);
    for index in 0..80 {
        let key = key(&index.to_string());
        cache.put(&key, &features(&key, 1024));
        let bytes = stats(dir.path()).unwrap().bytes;
        assert!(bytes <= budget + budget / 16 + one, "{bytes} bytes after {index}");
    }
    assert!(stats(dir.path()).unwrap().entries > 15);
}

#[test]
fn clearing_takes_entries_and_halves_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FeatureCache::new(dir.path(), 1 << 20);
    let (a, b) = (key("a"), key("b"));
    cache.put(&a, &features(&a, 3));
    cache.put(&b, &features(&b, 3));
    let own = dir.path().join("mine.safetensors");
    fs::write(&own, "not an entry").unwrap();
    fs::write(cache.path(&a).with_extension("1-1.tmp"), "half").unwrap();
    let cleared = clear(dir.path()).unwrap();
    assert_eq!(cleared.entries, 2);
    assert_eq!(cleared.bytes, stats_of(&features(&a, 3), &a) * 2);
    assert_eq!(stats(dir.path()).unwrap(), CacheStats::default());
    assert!(own.exists() && !dir.path().join("v1").exists());
    assert_eq!(clear(&dir.path().join("nowhere")).unwrap(), CacheStats::default());
}

/// Size of such an entry.
fn stats_of(features: &VisualFeatures, key: &FeatureKey) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    FeatureCache::new(dir.path(), 1 << 20).put(key, features);
    stats(dir.path()).unwrap().bytes
}

#[test]
fn halves_of_dead_processes_are_removed_and_those_of_living_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FeatureCache::new(dir.path(), 1 << 20);
    let (a, b) = (key("a"), key("b"));
    cache.put(&a, &features(&a, 3));
    let (old, new) = (cache.path(&a).with_extension("1-1.tmp"), cache.path(&a).with_extension("1-2.tmp"));
    for path in [&old, &new] {
        fs::write(path, "half").unwrap();
    }
    let file = fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    FeatureCache::new(dir.path(), 1 << 20).put(&b, &features(&b, 3));
    assert!(!old.exists() && new.exists());
}

#[test]
fn a_folder_of_frames_is_named_by_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("1.png", "a");
    let first = video_digest(dir.path()).unwrap();
    write("2.png", "b");
    let second = video_digest(dir.path()).unwrap();
    fs::rename(dir.path().join("2.png"), dir.path().join("3.png")).unwrap();
    let third = video_digest(dir.path()).unwrap();
    assert!(first != second && second != third);
    assert_ne!(video_digest(&dir.path().join("1.png")).unwrap(), first);
    assert!(video_digest(&dir.path().join("none")).is_err());
}
