//! Seeking in long videos: the frames are those of decoding from the start, pixel by pixel.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use isr_api::{ComponentError, Frames};
use support::{ffmpeg, reader, refusal};
use tempfile::tempdir;
use tracing_subscriber::fmt::MakeWriter;

/// Over a minute of frames that one pass does not keep.
const SOURCE: &str = "-f lavfi -i testsrc2=size=96x72:rate=25:duration=62";

/// So many that over a minute of them is left when some are dropped.
const FAST: &str = "-f lavfi -i testsrc2=size=96x72:rate=30:duration=70";

const H264: &str = "-c:v libx264 -preset veryfast -pix_fmt yuv420p";

const RULES: [&str; 2] =
    ["sampling = { rule = \"uniform\", frames = 8 }", "sampling = { rule = \"fps\", fps = 0.2 }"];

/// Events of this thread, as text.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<u8>>>);

impl io::Write for Events {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Reads a video, and returns what was said about seeking as well.
async fn read(section: &str, video: &Path) -> (Result<Frames, ComponentError>, String) {
    let events = Events::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(events.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let read = reader(section).read(video).await;
    let text = String::from_utf8_lossy(&events.0.lock().unwrap()).into_owned();
    (read, text)
}

/// Compares both ways of reading a video by each rule; whether frames were sought by the first rule, and why not.
async fn same(video: &Path, more: &str) -> Result<(), String> {
    let mut outcome = Err(String::new());
    for (number, rule) in RULES.iter().enumerate() {
        let (sought, events) = read(&format!("{rule}\n{more}"), video).await;
        let (whole, silence) = read(&format!("{rule}\n{more}\nseek = false"), video).await;
        let (sought, whole) = (sought.unwrap(), whole.unwrap());
        assert_eq!(sought.timestamps, whole.timestamps, "{} {rule}", video.display());
        assert_eq!(sought.duration, whole.duration, "{} {rule}", video.display());
        // Not by `assert_eq`, which would print megabytes.
        assert!(sought == whole, "the pixels of {} differ, {rule}: {events}", video.display());
        assert!(!silence.contains("seeking"), "{silence}");
        if number == 0 {
            outcome = if events.contains(" seeking") && !events.contains("from the start") {
                Ok(())
            } else {
                Err(events)
            };
        }
    }
    outcome
}

/// Makes a video, and compares.
async fn encoded(name: &str, args: &str) -> Result<(), String> {
    let folder = tempdir().unwrap();
    let file = folder.path().join(name);
    ffmpeg(&format!("{SOURCE} {args}"), &file, b"").await;
    same(&file, "").await
}

#[tokio::test]
async fn closed_and_open_gops() {
    let gop = |open: u8| format!("{H264} -x264-params open-gop={open}:keyint=60:bframes=3:ref=4");
    encoded("closed.mp4", &gop(0)).await.unwrap();
    encoded("open.mp4", &gop(1)).await.unwrap();
    encoded("open.mkv", &gop(1)).await.unwrap();
    let refresh = format!("{H264} -x264-params intra-refresh=1:keyint=60");
    encoded("refresh.mp4", &refresh).await.ok();
}

#[tokio::test]
async fn other_codecs() {
    encoded("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 60").await.unwrap();
    encoded("alt.webm", "-c:v libvpx-vp9 -cpu-used 8 -g 60 -auto-alt-ref 1 -lag-in-frames 12")
        .await
        .unwrap();
    let hevc = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=60:bframes=3:b-pyramid=1";
    encoded("hevc.mp4", hevc).await.unwrap();
    let reason = encoded("vp8.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -g 60").await.unwrap_err();
    assert!(reason.contains("a packet of `vp8` need not be a frame"), "{reason}");
}

#[tokio::test]
async fn other_containers_are_decoded_from_the_start() {
    for (name, args) in [("a.ts", format!("{H264} -g 60")), ("a.avi", "-c:v mpeg4 -bf 2".into())] {
        let reason = encoded(name, &args).await.unwrap_err();
        assert!(reason.contains("is not a container that is opened"), "{name}: {reason}");
    }
    encoded("a.h264", &format!("{H264} -g 60")).await.unwrap_err();
}

#[tokio::test]
async fn timestamps_of_all_kinds() {
    let folder = tempdir().unwrap();
    let variable = folder.path().join("variable.mp4");
    let uneven = "-vf select=not(mod(n\\,17)*mod(n\\,5)*mod(n\\,7))+mod(n\\,3) -fps_mode vfr";
    ffmpeg(&format!("{FAST} {uneven} {H264} -g 40"), &variable, b"").await;
    same(&variable, "").await.unwrap();
    encoded("late.mkv", &format!("{H264} -g 60 -output_ts_offset 5")).await.unwrap();
    encoded("fragments.mp4", &format!("{H264} -g 60 -movflags frag_keyframe+empty_moov")).await.ok();
    encoded("live.mkv", &format!("{H264} -g 60 -f matroska -live 1")).await.ok();
    encoded("sound.mp4", &format!("-f lavfi -i sine=duration=70 {H264} -g 60 -c:a aac -shortest"))
        .await
        .unwrap();
    encoded("interlaced.mp4", &format!("{H264} -g 60 -x264-params interlaced=1")).await.unwrap();
}

/// A rule that decodes no more than the first seconds does not read the rest to find where they end.
#[tokio::test]
async fn the_first_seconds_are_decoded_from_the_start() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.mp4");
    ffmpeg(&format!("{SOURCE} {H264}"), &file, b"").await;
    let first = "sampling = { rule = \"first_seconds\", seconds = 61.0, frames = 5 }";
    let (frames, events) = read(first, &file).await;
    assert!(!events.contains("seeking") && frames.unwrap().len() == 5, "{events}");
}

#[tokio::test]
async fn a_single_key_frame() {
    encoded("single.mp4", &format!("{H264} -g 100000 -sc_threshold 0")).await.unwrap();
}

/// A folder with `whole.mp4`, and a path in it.
async fn derived(name: &str, args: impl Fn(&str) -> String) -> (tempfile::TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let whole = folder.path().join("whole.mp4");
    let gop = "-x264-params open-gop=1:keyint=60:bframes=3:ref=4";
    ffmpeg(&format!("{SOURCE} {H264} {gop}"), &whole, b"").await;
    let file = folder.path().join(name);
    ffmpeg(&args(&whole.display().to_string()), &file, b"").await;
    (folder, file)
}

#[tokio::test]
async fn rotation_and_edit_lists() {
    let (_folder, turned) =
        derived("turned.mp4", |it| format!("-display_rotation 90 -i {it} -c copy")).await;
    same(&turned, "max_short_side = 64").await.unwrap();
    for name in ["edited.mp4", "edited.mov", "cut.mkv"] {
        let (_folder, edited) = derived(name, |it| format!("-ss 1.1 -i {it} -c copy")).await;
        same(&edited, "").await.ok();
    }
}

#[tokio::test]
async fn joined_copies() {
    for name in ["joined.mp4", "joined.mkv"] {
        let (folder, _) = derived("part.mp4", |it| format!("-ss 30.3 -i {it} -c copy")).await;
        let list = folder.path().join("list.txt");
        fs::write(&list, "file 'whole.mp4'\nfile 'part.mp4'\n").unwrap();
        let joined = folder.path().join(name);
        ffmpeg(&format!("-f concat -safe 0 -i {} -c copy", list.display()), &joined, b"").await;
        same(&joined, "").await.ok();
    }
}

#[tokio::test]
async fn a_truncated_video_is_refused_as_without_seeking() {
    let (folder, fast) = derived("fast.mp4", |it| format!("-i {it} -c copy -movflags +faststart")).await;
    let bytes = fs::read(&fast).unwrap();
    for share in [95, 60] {
        let cut = folder.path().join("cut.mp4");
        fs::write(&cut, &bytes[..bytes.len() * share / 100]).unwrap();
        let messages = [refusal(&*reader(""), &cut).await, refusal(&*reader("seek = false"), &cut).await];
        assert!(messages[0].contains("is damaged (") && messages[0] == messages[1], "{messages:?}");
        let lenient = same(&cut, "allow_damaged = true").await;
        assert!(
            lenient.is_err_and(|events| !events.contains("seeking")),
            "no frame of a damaged video is sought"
        );
    }
}

/// What is read of a damaged video is what decoding from the start gives, or sound where that refuses it.
#[tokio::test]
async fn damage_between_sampled_frames() {
    let (_folder, file) = derived("a.mp4", |it| format!("-i {it} -c copy -movflags +faststart")).await;
    let bytes = fs::read(&file).unwrap();
    let sound = reader("").read(&file).await.unwrap();
    let mut read_anyway = 0;
    for percent in [20, 35, 50, 65, 80, 99] {
        let mut damaged = bytes.clone();
        let at = bytes.len() * percent / 100;
        // Within a picture: sizes that contradict one another are found in the list of packets.
        damaged[at..at + 50].fill(0xff);
        fs::write(&file, damaged).unwrap();
        let whole = reader("seek = false").read(&file).await;
        match reader("").read(&file).await {
            Ok(frames) => {
                assert!(
                    whole.is_err() || whole.is_ok_and(|whole| whole == frames),
                    "damage at {percent} %"
                );
                read_anyway += usize::from(frames == sound);
            }
            Err(error) => {
                assert!(error.to_string().contains("is damaged ("), "{error}");
                assert!(whole.is_err(), "damage at {percent} %");
            }
        }
    }
    assert!(read_anyway > 0);
}

#[tokio::test]
async fn stretches_take_the_processes_that_are_free() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.mp4");
    ffmpeg(&format!("{SOURCE} {H264} -g 50"), &file, b"").await;
    let (alone, events) = read("processes = 1", &file).await;
    assert!(events.contains("processes=1"), "{events}");
    let (several, events) = read("processes = 3", &file).await;
    assert!(events.contains("processes=3"), "{events}");
    assert!(alone.unwrap() == several.unwrap());
    // All at once share the three.
    let shared = reader("processes = 3");
    let all = futures::future::join_all((0..6).map(|_| shared.read(&file))).await;
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|frames| frames.as_ref().unwrap() == first));
}

/// Benchmark: `ISR_LONG_CLIP=a.mp4 cargo test -p isr-video --test seeking -- --ignored --nocapture long_clip`. Without the
/// variable it makes a clip of 20 minutes, 720p, which takes some minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark"]
async fn long_clip() {
    let folder = tempdir().unwrap();
    let file = match std::env::var_os("ISR_LONG_CLIP") {
        Some(named) => PathBuf::from(named),
        None => {
            let file = folder.path().join("long.mp4");
            let source = "testsrc2=size=1280x720:rate=25:duration=1200,noise=alls=6:allf=t";
            let args = format!("-f lavfi -i {source} {H264} -crf 30");
            support::ffmpeg_within(std::time::Duration::from_secs(3600), &args, &file, b"").await;
            file
        }
    };
    let mut first: Option<Frames> = None;
    for round in 1..=3 {
        for (name, section) in [
            ("decoding from the start", "seek = false"),
            ("seeking, one process", "processes = 1"),
            ("seeking, a process for each core", ""),
        ] {
            let start = Instant::now();
            let (frames, events) = read(section, &file).await;
            let (frames, seconds) = (frames.unwrap(), start.elapsed().as_secs_f64());
            println!("{}", events.lines().find(|line| line.contains(" seeking")).unwrap_or_default());
            let digest = isr_api::Fingerprint::of(&frames.rgb);
            println!(
                "round {round}: {seconds:.2} s, {} frames, {}, {name}",
                frames.len(),
                &digest.as_str()[..12]
            );
            assert!(frames == *first.get_or_insert_with(|| frames.clone()), "{name} gives other frames");
        }
    }
}
