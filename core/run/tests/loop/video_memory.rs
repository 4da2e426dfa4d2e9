//! Videos in memory: decoded as seldom as the budget allows, whatever their size.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::{ComponentError, Fingerprint, Frames, VideoReader};

use crate::bench::{Fakes, Settings, run_with, scratch};

/// Reads clips of 8 frames of 1920x1080, 49.8 MB each, and counts.
#[derive(Default)]
struct CountingReader {
    reads: Mutex<HashMap<PathBuf, usize>>,
    under_way: AtomicUsize,
    /// Most clips under way at once after the first eight, whose size nobody knew.
    most: AtomicUsize,
}

#[async_trait]
impl VideoReader for CountingReader {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("1080p")
    }

    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        let size_is_known = {
            let mut reads = self.reads.lock().unwrap();
            *reads.entry(video.to_owned()).or_default() += 1;
            reads.values().sum::<usize>() > 8
        };
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        if size_is_known {
            self.most.fetch_max(under_way, Ordering::SeqCst);
        }
        // Others get a chance to be under way too.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let times = (0..8).map(f64::from).collect();
        Frames::new(1920, 1080, vec![0; 8 * 1920 * 1080 * 3], times)
    }
}

async fn run(feature_cache_mb: usize) -> Arc<CountingReader> {
    let reader = Arc::<CountingReader>::default();
    let mut settings = Settings::default();
    settings.r#loop.iterations = 2;
    settings.r#loop.concurrency = 8;
    settings.r#loop.feature_cache_mb = feature_cache_mb;
    let mut components = Fakes::new(&Arc::default()).components;
    components.video = reader.clone();
    run_with(scratch().path(), &settings, components).await.unwrap();
    reader
}

/// Six clips of 47.5 MiB each, in a budget that leaves an eighth of it less room than one clip needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_1080p_clip_is_decoded_once_in_a_run_of_two_iterations() {
    let reader = run(320).await;
    let reads = reader.reads.lock().unwrap();
    assert_eq!(reads.len(), 6, "{reads:?}");
    assert!(reads.values().all(|&count| count == 1), "{reads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_clips_are_under_way_than_the_budget_holds_once_their_size_is_known() {
    let (small, large) = (run(64).await, run(1024).await);
    // Beside one sample of a stage, a training step reads the clips of its two pairs.
    let most = small.most.load(Ordering::SeqCst);
    assert!((1..=2).contains(&most), "{most}");
    assert!(small.reads.lock().unwrap().values().all(|&count| count > 1), "64 MiB hold one clip");
    assert!(large.reads.lock().unwrap().values().all(|&count| count == 1));
}
