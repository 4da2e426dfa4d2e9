//! Video files: the frames that come out are exactly those that the contract names.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::time::{Duration, Instant};

use support::{LOSSLESS, clip, encode, ffmpeg, levels, reader, uniform};

#[tokio::test]
async fn uniform_sampling_takes_the_named_frames() {
    let (_folder, file) = clip("clip.mp4", (64, 48), 50, LOSSLESS).await;
    let frames = uniform(8).read(&file).await.unwrap();
    assert_eq!((frames.width, frames.height), (64, 48));
    assert_eq!(levels(&frames), [0, 7, 14, 21, 28, 35, 42, 49]);
    let seconds: Vec<f64> = levels(&frames).into_iter().map(|level| f64::from(level) / 25.0).collect();
    assert!(
        frames.timestamps.iter().zip(&seconds).all(|(a, b)| (a - b).abs() < 1e-9),
        "{:?}",
        frames.timestamps
    );
}

#[tokio::test]
async fn a_short_clip_repeats_frames() {
    let (_folder, file) = clip("clip.mp4", (16, 16), 3, LOSSLESS).await;
    assert_eq!(levels(&uniform(8).read(&file).await.unwrap()), [0, 0, 0, 0, 1, 1, 1, 2]);
}

/// 100 frames of 640 x 480 are 88 MiB, more than one pass keeps.
#[tokio::test]
async fn a_large_clip_gives_the_same_frames_in_two_passes() {
    let (_folder, file) = clip("clip.mp4", (640, 480), 100, LOSSLESS).await;
    let frames = uniform(8).read(&file).await.unwrap();
    assert_eq!((frames.width, frames.height), (640, 480));
    assert_eq!(levels(&frames), [0, 14, 28, 42, 56, 70, 84, 99]);
    assert!((frames.timestamps[7] - 99.0 / 25.0).abs() < 1e-9);
    let start = reader("sampling = { rule = \"first_seconds\", seconds = 2.0, frames = 5 }");
    assert_eq!(levels(&start.read(&file).await.unwrap()), [0, 12, 24, 36, 49]);
}

#[tokio::test]
async fn only_the_first_seconds_are_sampled() {
    let (_folder, file) = clip("clip.mp4", (16, 16), 150, LOSSLESS).await;
    let start = reader("sampling = { rule = \"first_seconds\", seconds = 2.0, frames = 5 }");
    assert_eq!(levels(&start.read(&file).await.unwrap()), [0, 12, 24, 36, 49]);
    let longer = reader("sampling = { rule = \"first_seconds\", seconds = 10.0, frames = 3 }");
    assert_eq!(levels(&longer.read(&file).await.unwrap()), [0, 74, 149]);
}

#[tokio::test]
async fn a_fixed_rate_is_capped() {
    let (_folder, file) = clip("clip.mp4", (16, 16), 101, LOSSLESS).await;
    let rate = reader("sampling = { rule = \"fps\", fps = 1 }");
    assert_eq!(levels(&rate.read(&file).await.unwrap()), [0, 25, 50, 75, 100]);
    let capped = reader("sampling = { rule = \"fps\", fps = 5.0, max_frames = 3 }");
    assert_eq!(levels(&capped.read(&file).await.unwrap()), [0, 50, 100]);
}

#[tokio::test]
async fn uneven_timestamps_are_kept() {
    // 0, 0.12, 0.48, 1.08 and 1.92 s; a tick falls on the last.
    let uneven = "-vf setpts=N*N*0.12/TB -fps_mode passthrough -c:v ffv1 -pix_fmt bgr0";
    let (_folder, file) = clip("clip.mkv", (16, 16), 5, uneven).await;
    let frames = reader("sampling = { rule = \"fps\", fps = 1.5625 }").read(&file).await.unwrap();
    assert_eq!(levels(&frames), [0, 2, 3, 4]);
    assert!(frames.timestamps.iter().zip([0.0, 0.48, 1.08, 1.92]).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[tokio::test]
async fn frames_are_scaled_down_but_never_up() {
    let (_folder, wide) = clip("clip.mp4", (96, 48), 4, LOSSLESS).await;
    let (_folder2, tall) = clip("clip.mp4", (48, 96), 4, LOSSLESS).await;
    for (side, wide_size, tall_size) in [(24, (48, 24), (24, 48)), (500, (96, 48), (48, 96))] {
        let small = reader(&format!("max_short_side = {side}"));
        let (a, b) = (small.read(&wide).await.unwrap(), small.read(&tall).await.unwrap());
        assert_eq!(((a.width, a.height), (b.width, b.height)), (wide_size, tall_size));
        assert_eq!(levels(&a), [0, 0, 0, 1, 1, 2, 2, 3]);
    }
}

#[tokio::test]
async fn common_containers_are_read() {
    for (name, codec) in [
        ("a.mkv", "-c:v libx264 -pix_fmt yuv420p"),
        ("a.avi", "-c:v mpeg4"),
        ("a.webm", "-c:v libvpx"),
        ("a.mov", "-c:v mjpeg -pix_fmt yuvj420p"),
        ("a.mpg", "-c:v mpeg2video"),
        ("a.flv", "-c:v flv1"),
        ("a.gif", ""),
    ] {
        let (_folder, file) = clip(name, (64, 64), 20, codec).await;
        let frames = uniform(4).read(&file).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((frames.len(), frames.width, frames.height), (4, 64, 64), "{name}");
    }
}

#[tokio::test]
async fn sound_and_odd_names_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.mp4");
    let both = "-f lavfi -i testsrc=size=64x64:rate=10:duration=2 -f lavfi -i sine=duration=3 -c:v libx264";
    ffmpeg(both, &plain, b"").await;
    let odd = folder.path().join("-i %03d a:b 'c' [d];,\u{fc}.mp4");
    std::fs::rename(&plain, &odd).unwrap();
    assert_eq!(uniform(4).read(&odd).await.unwrap().len(), 4);
}

#[tokio::test]
async fn reading_twice_and_at_once_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mp4");
    ffmpeg("-f lavfi -i testsrc2=size=64x64:rate=8:duration=3 -c:v libx264 -pix_fmt yuv420p", &file, b"")
        .await;
    let reader = reader("processes = 3");
    let first = reader.read(&file).await.unwrap();
    let tasks: Vec<_> = (0..12)
        .map(|_| {
            let (reader, file) = (reader.clone(), file.clone());
            tokio::spawn(async move { reader.read(&file).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), first);
    }
}

/// Not a benchmark: a guard against a second process or a pause in the common case.
#[tokio::test]
async fn a_small_clip_is_read_at_once() {
    let (_folder, file) = clip("clip.mp4", (64, 64), 24, LOSSLESS).await;
    let reader = uniform(8);
    reader.read(&file).await.unwrap();
    let start = Instant::now();
    for _ in 0..5 {
        reader.read(&file).await.unwrap();
    }
    println!("{:?} a clip", start.elapsed() / 5);
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn damage_may_be_allowed() {
    let (folder, file) = clip("clip.mp4", (64, 48), 50, &format!("{LOSSLESS} -movflags +faststart")).await;
    let bytes = std::fs::read(&file).unwrap();
    let cut = folder.path().join("cut.mp4");
    std::fs::write(&cut, &bytes[..bytes.len() * 7 / 10]).unwrap();
    let frames = reader("allow_damaged = true").read(&cut).await.unwrap();
    assert_eq!(frames.len(), 8);
    assert_eq!(frames.frame(0).unwrap()[0], 0);
    encode(&file, (64, 48), &[1, 2], LOSSLESS).await;
    assert_eq!(reader("allow_damaged = true").read(&file).await.unwrap().len(), 8);
}
