//! The world's folder: clips, lists, and a manifest that says which world they belong to.
//!
//! Clips are rendered aside and renamed, so a file that is there is complete; what is there is never
//! rendered again. Two processes may prepare one folder at once: they write the same bytes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use isr_api::Fingerprint;
use isr_run::store::write_atomic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clip::{Clip, Split};
use crate::config::WorldConfig;
use crate::encode::{BATCH, Encoder};
use crate::error::WorldError;
use crate::record::{Record, to_jsonl};
use crate::samples::{held_out, samples};

/// Version of generation and painting; a new one makes other clips from the same settings.
const RENDERER: u32 = 2;

/// Says which world a folder holds: the file `manifest.json`.
#[derive(Serialize, Deserialize)]
struct Manifest {
    fingerprint: Fingerprint,
    world: Value,
}

/// The settings that decide what a clip and its questions are; how many clips there are does not.
#[derive(Serialize)]
struct Identity {
    renderer: u32,
    seed: u64,
    max_objects: u32,
    frames: u32,
    fps: u32,
    size: u32,
    noise: f64,
    questions_per_clip: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warmstart_stills: Option<u32>,
}

impl Manifest {
    fn of(config: &WorldConfig) -> Self {
        let WorldConfig { seed, max_objects, frames, fps, size, noise, questions_per_clip, .. } = *config;
        let identity = Identity {
            renderer: RENDERER,
            seed,
            max_objects,
            frames,
            fps,
            size,
            noise,
            questions_per_clip,
            presence: Some(config.presence).filter(|presence| presence[0] < 1.0),
            warmstart_stills: Some(config.warmstart_stills).filter(|count| *count > 0),
        };
        let world = serde_json::to_value(&identity).unwrap_or_default();
        Self { fingerprint: Fingerprint::of_json(&world), world }
    }

    /// The first setting that differs, with both values.
    fn difference(&self, other: &Self) -> Option<String> {
        let ours = self.world.as_object()?;
        let (key, value) = ours.iter().find(|(key, value)| other.world.get(key) != Some(value))?;
        let theirs = other.world.get(key).map_or("missing".to_owned(), Value::to_string);
        Some(format!("`{key}` is {theirs} there, and {value} here"))
    }
}

/// Makes `config.dir` the folder of this world, unless it is that of another.
pub(crate) fn claim(config: &WorldConfig) -> Result<(), WorldError> {
    let videos = config.dir.join("videos");
    fs::create_dir_all(&videos).map_err(WorldError::io("create", &videos))?;
    let path = config.dir.join("manifest.json");
    let ours = Manifest::of(config);
    if !path.exists() {
        let text = serde_json::to_string_pretty(&ours).unwrap_or_default() + "\n";
        return Ok(write_atomic(&path, text.as_bytes())?);
    }
    let text = fs::read_to_string(&path).map_err(WorldError::io("read", &path))?;
    let theirs: Manifest = serde_json::from_str(&text)
        .map_err(|error| WorldError::Damaged { path, reason: error.to_string() })?;
    if theirs.fingerprint == ours.fingerprint {
        return Ok(());
    }
    let difference = ours.difference(&theirs).unwrap_or_else(|| "its fingerprint differs".to_owned());
    Err(WorldError::OtherWorld { dir: config.dir.clone(), difference })
}

/// Writes `train.jsonl` (no answers), `evaluation.jsonl` and `audit.jsonl` (the training samples with
/// answers and facts), where they do not stand already.
pub(crate) fn write_lists(config: &WorldConfig) -> Result<(), WorldError> {
    let training = samples(config, Split::Training);
    let held_out = held_out(config);
    let blind = training.iter().map(|it| Record::unlabelled(&it.sample, &config.dir));
    let lists = [
        ("train", to_jsonl(blind)),
        ("evaluation", to_jsonl(held_out.iter().map(|it| Record::labelled(it, &config.dir)))),
        ("audit", to_jsonl(training.iter().map(|it| Record::labelled(it, &config.dir)))),
    ];
    for (name, text) in lists {
        let path = config.dir.join(format!("{name}.jsonl"));
        if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            write_atomic(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Renders the clips of a split that are missing; returns how many were.
pub(crate) fn render(config: &WorldConfig, split: Split) -> Result<usize, WorldError> {
    let missing = missing(config, split)?;
    if missing.is_empty() {
        return Ok(0);
    }
    tracing::info!(clips = missing.len(), split = split.prefix(), dir = %config.dir.display(), "rendering");
    let encoder = Encoder { program: isr_ffmpeg::locate()?, config };
    let aside = Aside::create(&config.dir)?;
    let batches: Vec<_> = missing.chunks(BATCH).collect();
    in_parallel(&batches, |batch| {
        encoder.encode(batch, &aside.path)?;
        batch.iter().try_for_each(|clip| aside.publish(clip, &config.dir))
    })?;
    Ok(missing.len())
}

fn missing(config: &WorldConfig, split: Split) -> Result<Vec<Clip>, WorldError> {
    let videos = config.dir.join("videos");
    let entries = fs::read_dir(&videos).map_err(WorldError::io("read", &videos))?;
    let there: HashSet<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let is_missing = |clip: &Clip| !there.contains(Path::new(&format!("{}.mp4", clip.name())).as_os_str());
    let clips = (0..split.clips(config)).map(|index| Clip::generate(config, split, index));
    Ok(clips.filter(is_missing).collect())
}

/// Works through `items` on all cores; stops at the first error and returns it.
fn in_parallel<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), WorldError> + Sync,
) -> Result<(), WorldError> {
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let worker = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                next.store(items.len(), Ordering::Relaxed);
                failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(worker))));
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
}

/// The folder that clips are rendered into before they are renamed; removed when it goes out of use.
struct Aside {
    path: PathBuf,
}

impl Aside {
    fn create(dir: &Path) -> Result<Self, WorldError> {
        static RENDERS: AtomicUsize = AtomicUsize::new(0);
        let number = RENDERS.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(".rendering-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(WorldError::io("create", &path))?;
        // Arguments of ffmpeg: an absolute path cannot be taken for an option or a protocol.
        let path = fs::canonicalize(&path).map_err(WorldError::io("read", &path))?;
        Ok(Self { path })
    }

    /// Makes a rendered clip durable and moves it to its place.
    fn publish(&self, clip: &Clip, dir: &Path) -> Result<(), WorldError> {
        let from = self.path.join(format!("{}.mp4", clip.name()));
        let file = File::open(&from).map_err(WorldError::io("read", &from))?;
        file.sync_all().map_err(WorldError::io("write", &from))?;
        let to = dir.join(clip.file());
        fs::rename(&from, &to).map_err(WorldError::io("write", &to))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a temporary folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> WorldConfig {
        WorldConfig {
            dir: dir.to_owned(),
            training_clips: 20,
            evaluation_clips: 3,
            warmstart_clips: 2,
            ..WorldConfig::default()
        }
    }

    fn bytes(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(dir.join("videos"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn rendering_twice_gives_the_same_bytes_and_is_done_once() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&one, &two] {
            let config = config(folder.path());
            claim(&config).unwrap();
            assert_eq!(render(&config, Split::Training).unwrap(), 20);
            assert_eq!(render(&config, Split::WarmStart).unwrap(), 2);
            assert_eq!(render(&config, Split::Training).unwrap(), 0, "nothing is missing");
        }
        let (first, second) = (bytes(one.path()), bytes(two.path()));
        assert_eq!(first.len(), 22);
        for ((name, bytes), (_, again)) in first.iter().zip(&second) {
            let at = bytes.iter().zip(again).position(|(a, b)| a != b);
            assert!(bytes == again, "{name}: {} and {} bytes, first at {at:?}", bytes.len(), again.len());
        }
        let left: Vec<_> = fs::read_dir(one.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "only manifest and videos: {left:?}");
    }

    #[test]
    fn a_missing_clip_is_rendered_again_and_more_may_be_added() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = WorldConfig { training_clips: 3, ..config(folder.path()) };
        claim(&config).unwrap();
        render(&config, Split::Training).unwrap();
        let before = bytes(folder.path());
        fs::remove_file(folder.path().join("videos/train-000001.mp4")).unwrap();
        config.training_clips = 4;
        claim(&config).unwrap();
        assert_eq!(render(&config, Split::Training).unwrap(), 2);
        assert!(bytes(folder.path())[..3] == before[..]);
    }

    #[test]
    fn a_folder_of_another_world_is_refused_with_the_difference() {
        let folder = tempfile::tempdir().unwrap();
        let first = config(folder.path());
        claim(&first).unwrap();
        let other = WorldConfig { noise: 0.1, ..first.clone() };
        let message = claim(&other).unwrap_err().to_string();
        assert!(message.contains("`noise` is 0.03 there, and 0.1 here"), "{message}");
        assert!(message.contains("choose another `data.dir`"), "{message}");
        claim(&first).unwrap();
        fs::write(folder.path().join("manifest.json"), "{").unwrap();
        let message = claim(&first).unwrap_err().to_string();
        assert!(message.contains("manifest.json is damaged"), "{message}");
    }

    #[test]
    fn the_first_error_of_parallel_work_is_returned() {
        let items: Vec<_> = (0..100).collect();
        let work = |item: &i32| {
            if *item == 7 { Err(WorldError::Config("seven".to_owned())) } else { Ok(()) }
        };
        assert_eq!(in_parallel(&items, work).unwrap_err().to_string(), "seven");
        in_parallel(&items[10..], work).unwrap();
    }
}
