//! Decoded and encoded videos in memory, within one budget of bytes.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use isr_api::VideoInput;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit in which videos under way are counted, in bytes.
const UNIT: u64 = 1 << 10;

/// A cache of videos, bounded by the bytes of their frames and features. Concurrent requests for one video share the
/// work. Videos in use stay in the cache and count, since their eviction would free no memory; they may exceed the
/// budget together, and what is no longer used is evicted with the next video that is not cached.
///
/// A video above the budget by itself is not kept. A budget of 0 keeps none.
pub struct VideoMemory<K> {
    cache: Cache<K, VideoInput, Bytes, DefaultHashBuilder, InUse<K>>,
    budget: u64,
    /// Size of the largest video so far.
    largest: AtomicU64,
    under_way: Arc<Semaphore>,
}

/// Weighs a video by its bytes.
#[derive(Clone)]
struct Bytes;

fn bytes(scene: &VideoInput) -> u64 {
    let features = scene.features.as_ref().map_or(0, |features| features.bytes.len());
    (scene.frames.rgb.len() + features).max(1) as u64
}

impl<K> Weighter<K, VideoInput> for Bytes {
    fn weight(&self, _: &K, scene: &VideoInput) -> u64 {
        bytes(scene)
    }
}

/// Pins videos that something outside the cache holds.
#[derive(Clone)]
struct InUse<K> {
    budget: u64,
    default: DefaultLifecycle<K, VideoInput>,
}

impl<K> Lifecycle<K, VideoInput> for InUse<K> {
    type RequestState = <DefaultLifecycle<K, VideoInput> as Lifecycle<K, VideoInput>>::RequestState;

    fn is_pinned(&self, _: &K, scene: &VideoInput) -> bool {
        let features = scene.features.as_ref().is_some_and(|features| Arc::strong_count(features) > 1);
        (features || Arc::strong_count(&scene.frames) > 1) && bytes(scene) <= self.budget
    }

    fn begin_request(&self) -> Self::RequestState {
        self.default.begin_request()
    }

    fn on_evict(&self, state: &mut Self::RequestState, key: K, scene: VideoInput) {
        self.default.on_evict(state, key, scene);
    }
}

/// Permission to have a video under way; see [`VideoMemory::admit`].
#[derive(Debug)]
#[must_use]
pub struct Admission(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

impl<K: Eq + Hash + Clone> VideoMemory<K> {
    /// Creates a cache of at most `budget` bytes.
    pub fn new(budget: u64) -> Self {
        // A shard holds its share of the budget and refuses what is larger, so there is one.
        Self::with_shards(budget, 1)
    }

    fn with_shards(budget: u64, shards: usize) -> Self {
        // The estimated number of items only sizes the cache's tables.
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(1024).weight_capacity(budget).shards(shards);
        let in_use = InUse { budget, default: DefaultLifecycle::default() };
        let cache = match options.build() {
            Ok(options) => Cache::with_options(options, Bytes, DefaultHashBuilder::default(), in_use),
            // Unreachable: both sizes are set.
            Err(_) => Cache::with(1024, budget, Bytes, DefaultHashBuilder::default(), in_use),
        };
        let units = usize::try_from(budget / UNIT).unwrap_or(usize::MAX).min(u32::MAX as usize);
        Self { cache, budget, largest: AtomicU64::new(0), under_way: Arc::new(Semaphore::new(units)) }
    }

    /// Returns a video from the cache, or awaits `open` and keeps its result.
    ///
    /// # Errors
    /// Those of `open`.
    pub async fn get_or_open<E>(
        &self,
        key: &K,
        open: impl Future<Output = Result<VideoInput, E>>,
    ) -> Result<VideoInput, E> {
        let open = async {
            let scene = open.await?;
            self.largest.fetch_max(bytes(&scene), Ordering::Relaxed);
            Ok(scene)
        };
        self.cache.get_or_insert_async(key, open).await
    }

    /// Waits until one more video may be under way: until the budget holds as many of the largest video so far. Before
    /// the first video, eight; one always may. A task that holds an admission must not wait for another.
    pub async fn admit(&self) -> Admission {
        let all = self.budget / UNIT;
        let largest = match self.largest.load(Ordering::Relaxed) {
            0 => all / 8,
            largest => largest.div_ceil(UNIT),
        };
        let units = largest.clamp(1, all.max(1)).min(u64::from(u32::MAX)) as u32;
        match all {
            // Without a budget, the number of tasks is the bound.
            0 => Admission(None),
            _ => Admission(Arc::clone(&self.under_way).acquire_many_owned(units).await.ok()),
        }
    }

    /// Returns the bytes of all cached videos.
    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt;
    use isr_api::Frames;

    use super::*;

    const BUDGET: u64 = 1 << 20;

    fn video(bytes: u64) -> VideoInput {
        let pixels = bytes as u32 / 3;
        let frames = Frames::new(pixels, 1, vec![0; pixels as usize * 3], vec![0.0]).unwrap();
        VideoInput { video: "a.mp4".into(), frames: Arc::new(frames), features: None }
    }

    /// Opens `count` videos of a size in turn, several times over; returns how often one had to be decoded.
    async fn decoded(memory: &VideoMemory<u64>, count: u64, size: u64) -> usize {
        let decoded = AtomicUsize::new(0);
        for _ in 0..3 {
            for key in 0..count {
                let open = async {
                    decoded.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, Infallible>(video(size))
                };
                let _ = memory.get_or_open(&key, open).await;
            }
        }
        decoded.into_inner()
    }

    /// Returns how often videos are decoded whose sizes are near a shard's share of the budget, and their number.
    async fn near_a_share(shards: usize) -> (usize, usize) {
        let (mut times, mut videos) = (0, 0);
        for part in [40, 32, 30, 9, 8, 7, 2, 1] {
            let size = BUDGET * 9 / 10 / part;
            times += decoded(&VideoMemory::with_shards(BUDGET, shards), part, size).await;
            videos += part as usize;
        }
        (times, videos)
    }

    /// A cache of 32 shards, the default of its crate on 8 cores, does not keep videos that fit into the budget.
    #[tokio::test]
    async fn what_fits_into_the_budget_is_decoded_once_whatever_the_number_of_cores() {
        let (times, videos) = near_a_share(1).await;
        assert_eq!(times, videos);
        let (times, videos) = near_a_share(32).await;
        // At least 32 + 30 + 40 + 2 * 8 + 3 * 27 = 199 times, by the pigeonhole principle; more by the hashes' seed.
        assert!(
            times >= videos + 70,
            "{times} times for {videos} videos: the control shows what shards do"
        );
        let memory = VideoMemory::<u64>::new(BUDGET);
        assert_eq!(memory.cache.shard_capacity(), BUDGET, "the default has one shard");
    }

    #[tokio::test]
    async fn the_budget_is_kept_and_a_video_above_it_or_without_one_is_not() {
        let memory = VideoMemory::new(BUDGET);
        assert!(decoded(&memory, 40, BUDGET / 8).await > 40);
        assert!(memory.bytes() <= BUDGET && memory.bytes() > BUDGET / 2, "{}", memory.bytes());
        let held = memory.get_or_open(&99, async { Ok::<_, Infallible>(video(2 * BUDGET)) }).await;
        assert!(memory.bytes() <= BUDGET);
        drop(held);
        assert_eq!(decoded(&VideoMemory::new(0), 2, 30).await, 6);
    }

    #[tokio::test]
    async fn videos_in_use_stay_and_count() {
        let memory = VideoMemory::new(BUDGET);
        let open = async || {
            let held = memory.get_or_open(&0, async { Ok::<_, Infallible>(video(BUDGET / 4)) }).await;
            held.unwrap()
        };
        let held = open().await;
        decoded(&memory, 40, BUDGET / 8).await;
        assert!(Arc::ptr_eq(&held.frames, &open().await.frames), "not decoded again");
        assert!(memory.bytes() <= BUDGET);
        let many =
            futures::future::join_all(
                (100..120).map(|key| {
                    let memory = &memory;
                    async move {
                        memory.get_or_open(&key, async { Ok::<_, Infallible>(video(BUDGET / 8)) }).await
                    }
                }),
            );
        let many = many.await;
        assert!(memory.bytes() >= 20 * (BUDGET / 8 / 3 * 3), "what is in use counts: {}", memory.bytes());
        drop((many, held));
        let _ = memory.get_or_open(&1000, async { Ok::<_, Infallible>(video(30)) }).await;
        assert!(memory.bytes() <= BUDGET, "released, they are evicted: {}", memory.bytes());
    }

    #[tokio::test]
    async fn as_many_videos_are_under_way_as_the_budget_holds() {
        let memory = VideoMemory::<u64>::new(BUDGET);
        let first: Vec<_> = (0..8).map(|_| memory.admit().now_or_never().unwrap()).collect();
        assert!(memory.admit().now_or_never().is_none(), "an unknown size counts an eighth");
        drop(first);
        let _ = memory.get_or_open(&0, async { Ok::<_, Infallible>(video(BUDGET * 2 / 5)) }).await;
        let two: Vec<_> = (0..2).map(|_| memory.admit().now_or_never().unwrap()).collect();
        assert!(memory.admit().now_or_never().is_none());
        drop(two);
        let _ = memory.get_or_open(&1, async { Ok::<_, Infallible>(video(3 * BUDGET)) }).await;
        let one = memory.admit().now_or_never().unwrap();
        assert!(memory.admit().now_or_never().is_none(), "a video above the budget is under way alone");
        drop(one);
        let without = VideoMemory::<u64>::new(0);
        let _all: Vec<_> = (0..100).map(|_| without.admit().now_or_never().unwrap()).collect();
    }
}
