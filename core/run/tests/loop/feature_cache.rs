//! Visual features on disk: never another result, and as little encoding as can be.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    ComponentError, FeatureType, Fingerprint, Frames, FrozenPolicy, RetrospectionCase, Retrospector,
    Sample, VideoEncoder, VideoReader, VisualFeatures,
};
use isr_run::Components;
use isr_run::feature_cache::{clear, stats};
use tempfile::TempDir;

use crate::bench::{Fakes, Settings, Tree, assert_same, run_with, scratch, tree};
use crate::control::Control;
use crate::fakes::{AllViews, FakeSource, samples};

/// Frames that begin with the video's byte, or with the seed that they are drawn by.
struct ByteReader {
    draws: bool,
}

/// Width and height of a frame in pixels.
const SIDE: usize = 4;

fn frames_of(byte: u8) -> Frames {
    let rgb = (0..2 * SIDE * SIDE * 3).map(|index| byte.wrapping_add(index as u8)).collect();
    let (width, height) = (SIDE as u32, SIDE as u32);
    Frames { width, height, rgb, timestamps: vec![0.0, 0.5], duration: 1.0 }
}

#[async_trait]
impl VideoReader for ByteReader {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("byte reader")
    }

    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        Ok(frames_of(fs::read(video).map_err(ComponentError::bad_input)?[0]))
    }

    fn draws_frames(&self) -> bool {
        self.draws
    }

    async fn draw(&self, video: &Path, seed: u64) -> Result<Frames, ComponentError> {
        let byte = fs::read(video).map_err(ComponentError::bad_input)?[0];
        let mut frames = frames_of(byte);
        // Of the first video, whose byte is that of its second sample, there is but one choice.
        if byte != 1 {
            frames.rgb[..8].copy_from_slice(&seed.to_le_bytes());
        }
        Ok(frames)
    }
}

/// Features that tell one video from another, and one encoder from another.
struct ByteEncoder {
    salt: u8,
    place: &'static str,
    control: Arc<Control>,
}

#[async_trait]
impl VideoEncoder for ByteEncoder {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of([self.salt])
    }

    fn device_key(&self) -> String {
        self.place.to_owned()
    }

    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
        self.control.enter("encode").await?;
        let bytes = frames.rgb.iter().flat_map(|byte| [*byte, self.salt]).collect();
        Ok(VisualFeatures {
            dtype: FeatureType::Bf16,
            shape: [2, SIDE * SIDE, 3],
            bytes,
            encoder: self.fingerprint(),
        })
    }
}

/// Writes what it sees, so that another feature is another context.
struct SeeingRetrospector;

#[async_trait]
impl Retrospector for SeeingRetrospector {
    async fn describe(&self, case: &RetrospectionCase, _: &FrozenPolicy) -> Result<String, ComponentError> {
        Ok(format!("{:?}", case.scene.features))
    }
}

/// Videos and a cache in a folder.
struct World {
    folder: TempDir,
    settings: Settings,
    salt: u8,
    place: &'static str,
    draws: bool,
}

impl World {
    fn new() -> Self {
        let folder = scratch();
        let mut settings = Settings::default();
        settings.r#loop.iterations = 2;
        settings.r#loop.feature_cache_mb = 0;
        let world = Self { folder, settings, salt: 1, place: "", draws: false };
        for (index, sample) in world.samples("s", 8).iter().chain(&world.samples("e", 3)).enumerate() {
            fs::create_dir_all(sample.video.parent().unwrap()).unwrap();
            fs::write(&sample.video, [index as u8]).unwrap();
        }
        world
    }

    fn with_cache(mut self) -> Self {
        self.settings.r#loop.feature_cache_dir = Some(self.cache());
        self
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn samples(&self, prefix: &str, count: usize) -> Vec<Sample> {
        let inside = |sample: Sample| Sample { video: self.folder.path().join(&sample.video), ..sample };
        samples(prefix, count).into_iter().map(inside).collect()
    }

    fn components(&self, control: &Arc<Control>) -> Components {
        let data = FakeSource {
            training: self.samples("s", 8),
            evaluation: self.samples("e", 3),
            control: Arc::clone(control),
        };
        Components {
            data: Arc::new(data),
            video: Arc::new(ByteReader { draws: self.draws }),
            objective: Arc::clone(&self.settings.objective),
            encoder: Some(Arc::new(ByteEncoder {
                salt: self.salt,
                place: self.place,
                control: Arc::clone(control),
            })),
            retrospector: Some(Arc::new(SeeingRetrospector)),
            ..Fakes::new(control).components
        }
    }

    /// A whole run in a new directory: what it left, and how often it encoded.
    async fn run(&self) -> (Tree, usize) {
        self.run_as(Control::default()).await
    }

    async fn run_as(&self, control: Control) -> (Tree, usize) {
        let (control, dir) = (Arc::new(control), scratch());
        run_with(dir.path(), &self.settings, self.components(&control)).await.unwrap();
        let mut tree = tree(dir.path());
        // It says where the cache is.
        tree.remove("config.toml");
        (tree, control.counts().get("encode").copied().unwrap_or(0))
    }
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    let groups = fs::read_dir(cache.join("v1")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        groups.flat_map(|group| fs::read_dir(group).unwrap()).map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Videos of the samples above.
const VIDEOS: usize = 6;

#[tokio::test]
async fn results_are_the_same_with_and_without_and_each_video_is_encoded_once() {
    let world = World::new();
    let (plain, encoded) = world.run().await;
    assert!(encoded > VIDEOS, "without memory and disk, {encoded} times");
    let world = world.with_cache();
    let (first, encoded) = world.run().await;
    assert_same(&plain, &first, "a new cache");
    assert_eq!(encoded, VIDEOS);
    let (second, encoded) = world.run().await;
    assert_same(&plain, &second, "a full cache");
    assert_eq!(encoded, 0);
    assert_eq!(stats(&world.cache()).unwrap().entries, VIDEOS);
}

#[tokio::test]
async fn each_draw_of_frames_is_encoded_once_and_equal_draws_share_their_features() {
    let mut world = World::new();
    world.draws = true;
    let (plain, _) = world.run().await;
    let world = world.with_cache();
    let (first, encoded) = world.run().await;
    assert_same(&plain, &first, "a new cache");
    // Four videos in two iterations, of which one is the same in both, and two held-out ones.
    assert_eq!(encoded, 3 * 2 + 1 + 2);
    let (second, encoded) = world.run().await;
    assert_same(&plain, &second, "a full cache");
    assert_eq!(encoded, 0);
}

#[tokio::test]
async fn cropped_videos_leave_the_features_of_whole_ones_in_place() {
    let mut world = World::new().with_cache();
    world.settings.objective = Arc::new(AllViews);
    world.run().await;
    assert_eq!(world.run().await.1, 0, "nothing was displaced");
}

#[tokio::test]
async fn another_encoder_or_device_finds_nothing_and_takes_nothing_away() {
    let mut world = World::new().with_cache();
    let (first, _) = world.run().await;
    world.salt = 2;
    let (other, encoded) = world.run().await;
    assert_eq!(encoded, VIDEOS);
    assert_ne!(first["iteration-01/contexts.jsonl"], other["iteration-01/contexts.jsonl"]);
    world.place = "elsewhere";
    assert_eq!(world.run().await.1, VIDEOS);
    (world.salt, world.place) = (1, "");
    let (again, encoded) = world.run().await;
    assert_same(&first, &again, "the first encoder again");
    assert_eq!(encoded, 0);
}

#[tokio::test]
async fn a_video_that_changes_is_encoded_again_and_a_copy_is_not() {
    let world = World::new().with_cache();
    world.run().await;
    let videos: Vec<PathBuf> = world.samples("s", 8).into_iter().map(|it| it.video).collect();
    fs::write(&videos[0], [200]).unwrap();
    assert_eq!(world.run().await.1, 1);
    fs::copy(&videos[2], &videos[0]).unwrap();
    assert_eq!(world.run().await.1, 0);
}

#[tokio::test]
async fn a_damaged_entry_is_computed_again_and_mended() {
    let world = World::new().with_cache();
    let (first, _) = world.run().await;
    let files = entries(&world.cache());
    let damage: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes[..8].fill(255),
        |bytes| bytes[12] ^= 64,
    ];
    for (file, damage) in files.iter().zip(damage) {
        let mut bytes = fs::read(file).unwrap();
        damage(&mut bytes);
        fs::write(file, bytes).unwrap();
    }
    // An entry of another video, under this one's name.
    fs::copy(&files[0], &files[5]).unwrap();
    let (second, encoded) = world.run().await;
    assert_same(&first, &second, "damaged entries");
    assert_eq!(encoded, 6);
    assert_eq!(world.run().await.1, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_that_share_a_folder_while_it_is_cleared_differ_in_nothing() {
    let world = World::new();
    let (plain, _) = world.run().await;
    let world = world.with_cache();
    let cleared = async {
        for _ in 0..40 {
            clear(&world.cache()).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let (a, b) = (world.run_as(Control::default().delayed(1)), world.run_as(Control::default().delayed(2)));
    let ((a, _), (b, _), ()) = tokio::join!(a, b, cleared);
    assert_same(&plain, &a, "one run");
    assert_same(&plain, &b, "the other run");
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_changes_nothing() {
    let world = World::new();
    let (plain, _) = world.run().await;
    let world = world.with_cache();
    fs::write(world.cache(), "a file where the folder should be").unwrap();
    assert_same(&plain, &world.run().await.0, "no cache to write to");
}

#[tokio::test]
async fn a_video_that_cannot_be_digested_is_encoded_all_the_same() {
    let mut settings = Settings::default();
    let (control, plain) = (Arc::default(), scratch());
    run_with(plain.path(), &settings, Fakes::new(&control).components).await.unwrap();
    let (cached, cache) = (scratch(), scratch());
    settings.r#loop.feature_cache_dir = Some(cache.path().to_owned());
    run_with(cached.path(), &settings, Fakes::new(&control).components).await.unwrap();
    let trees = [plain.path(), cached.path()].map(|path| {
        let mut tree = tree(path);
        tree.remove("config.toml");
        tree
    });
    assert_same(&trees[0], &trees[1], "videos that are not there");
    assert_eq!(stats(cache.path()).unwrap().entries, 0);
}

#[tokio::test]
async fn a_run_may_go_on_with_another_cache() {
    let mut world = World::new();
    let (dir, control) = (scratch(), Arc::default());
    world.settings.r#loop.iterations = 1;
    run_with(dir.path(), &world.settings, world.components(&control)).await.unwrap();
    let mut world = world.with_cache();
    world.settings.r#loop.iterations = 2;
    world.settings.r#loop.feature_cache_gb = 1.0;
    let summary = run_with(dir.path(), &world.settings, world.components(&control)).await.unwrap();
    assert_eq!(summary.iterations.len(), 2);
    assert!(stats(&world.cache()).unwrap().entries > 0);
}
