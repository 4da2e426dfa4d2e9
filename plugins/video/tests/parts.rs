//! Parts of videos: frames between two times, as a path with a media fragment names them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::path::{Path, PathBuf};

use isr_api::VideoSpan;
use support::{LOSSLESS, clip, encode, ffmpeg, levels, reader, refusal, uniform};

fn part(file: &Path, start: f64, end: impl Into<Option<f64>>) -> PathBuf {
    VideoSpan { start, end: end.into() }.of(file)
}

#[tokio::test]
async fn a_part_is_a_video_of_its_frames() {
    for size in [(16, 16), (640, 480)] {
        let (_folder, file) = clip("clip.mp4", size, 100, LOSSLESS).await;
        let frames = uniform(3).read(&part(&file, 1.0, 2.0)).await.unwrap();
        assert_eq!(levels(&frames), [25, 37, 49]);
        assert_eq!((frames.timestamps[0], frames.duration), (0.0, 1.0));
        assert!((frames.timestamps[2] - 0.96).abs() < 1e-9, "{:?}", frames.timestamps);
        assert_eq!(levels(&uniform(2).read(&part(&file, 0.0, 0.2)).await.unwrap()), [0, 4]);
        assert_eq!(levels(&uniform(2).read(&part(&file, 3.0, None)).await.unwrap()), [75, 99]);
        let first = reader("sampling = { rule = \"first_seconds\", seconds = 1.0, frames = 2 }");
        assert_eq!(levels(&first.read(&part(&file, 1.0, 3.0)).await.unwrap()), [25, 49]);
        let rate = reader("sampling = { rule = \"fps\", fps = 2.0 }");
        assert_eq!(levels(&rate.read(&part(&file, 1.0, 3.0)).await.unwrap()), [25, 37, 50, 62]);
    }
}

#[tokio::test]
async fn a_part_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("%03d.png");
    encode(&name, (8, 8), &(0..20).collect::<Vec<u8>>(), "").await;
    let frames = reader("folder_fps = 4.0").read(&part(folder.path(), 2.0, 4.0)).await.unwrap();
    assert_eq!(levels(&frames), [8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!((frames.timestamps[7], frames.duration), (1.75, 2.0));
    let message = refusal(&*reader("folder_fps = 4.0"), &part(folder.path(), 2.0, 7.0)).await;
    assert!(message.ends_with("it ends at 7 s, and the video at 5.00 s"), "{message}");
    let message = refusal(&*uniform(2), &part(&folder.path().join("001.png"), 0.0, 1.0)).await;
    assert!(message.ends_with("a picture has no parts"), "{message}");
}

#[tokio::test]
async fn what_is_no_part_is_refused() {
    let (_folder, file) = clip("clip.mp4", (16, 16), 100, LOSSLESS).await;
    for (start, end, reason) in [
        (2.0, Some(1.0), "its end, 1 s, is not behind its start, 2 s"),
        (-1.0, None, "is before the start of the video"),
        (4.5, None, "the video ends at 4.00 s"),
        (1.0, Some(5.5), "it ends at 5.5 s, and the video at 4.00 s"),
        (1.0, Some(1.04), "has 1 frame"),
    ] {
        let message = refusal(&*uniform(8), &part(&file, start, end)).await;
        assert!(message.contains(reason), "{message}");
    }
}

/// A part far behind the start of a long video is sought; frames are those of the whole video at these places.
#[tokio::test]
async fn a_part_of_a_long_video() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.mp4");
    let long = "-f lavfi -i testsrc2=size=96x72:rate=25:duration=80 -c:v libx264 -preset veryfast -g 60";
    ffmpeg(long, &file, b"").await;
    let span = part(&file, 70.0, 72.0);
    let sought = uniform(4).read(&span).await.unwrap();
    let whole = reader("seek = false").read(&span).await.unwrap();
    let mut times = sought.timestamps.iter().zip([0.0, 0.64, 1.28, 1.96]);
    assert!(times.all(|(a, b)| (a - b).abs() < 1e-9), "{:?}", sought.timestamps);
    let four =
        reader("seek = false\nsampling = { rule = \"uniform\", frames = 4 }").read(&span).await.unwrap();
    assert!(sought == four && whole.len() == 8);
}
