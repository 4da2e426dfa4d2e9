//! Frames that are drawn, of real clips: which they are, and when they are shown.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use isr_api::VideoReader;
use support::{LOSSLESS, clip, ffmpeg, levels, reader};

const FOUR: &str = "sampling = { rule = \"jittered\", frames = 4 }";

/// Reads a draw, whose levels are the indices of its frames at 25 a second.
async fn draw(reader: &dyn VideoReader, video: &Path, seed: u64) -> Vec<u8> {
    let frames = reader.draw(video, seed).await.unwrap();
    let levels = levels(&frames);
    for (level, time) in levels.iter().zip(&frames.timestamps) {
        assert!((f64::from(*level) / 25.0 - time).abs() < 1e-3, "{level} at {time} s");
    }
    assert!((frames.duration - 1.6).abs() < 1e-6, "that of the whole clip");
    levels
}

#[tokio::test]
async fn a_draw_has_a_frame_of_each_segment_with_its_time() {
    let (_folder, file) = clip("clip.mp4", (32, 24), 40, LOSSLESS).await;
    let reader = reader(FOUR);
    assert!(reader.draws_frames() && !support::uniform(4).draws_frames());
    let mut seen = BTreeSet::new();
    for seed in 0..12 {
        let drawn = draw(reader.as_ref(), &file, seed).await;
        assert!((0..4_u8).all(|segment| drawn[usize::from(segment)] / 10 == segment), "{drawn:?}");
        assert!(drawn.windows(2).all(|pair| pair[1] - pair[0] == 10), "evenly spaced: {drawn:?}");
        assert_eq!(draw(reader.as_ref(), &file, seed).await, drawn, "the same seed");
        seen.insert(drawn);
    }
    // Of ten, twelve draws leave out some.
    assert!(seen.len() > 4, "{seen:?}");
    let middle = reader.read(&file).await.unwrap();
    assert_eq!(levels(&middle), [5, 15, 25, 35]);
    let independent = support::reader(&FOUR.replace('}', ", offsets = \"independent\" }"));
    let gaps = async |seed| {
        let drawn = draw(independent.as_ref(), &file, seed).await;
        drawn.windows(2).map(|pair| pair[1] - pair[0]).collect::<BTreeSet<_>>().len()
    };
    assert!(gaps(0).await + gaps(1).await + gaps(2).await > 3, "gaps vary");
}

#[tokio::test]
async fn short_clips_repeat_frames_and_parts_are_drawn_of_themselves() {
    let (_folder, file) = clip("clip.mp4", (32, 24), 40, LOSSLESS).await;
    let reader = reader(FOUR);
    let part = file.with_file_name("clip.mp4#t=0.4,0.8");
    let drawn = reader.draw(&part, 3).await.unwrap();
    assert!(levels(&drawn).iter().all(|level| (10..20).contains(level)), "{:?}", levels(&drawn));
    assert_eq!(drawn.duration, 0.4);
    let short = file.with_file_name("clip.mp4#t=0.4,0.48");
    for seed in 0..3 {
        assert_eq!(levels(&reader.draw(&short, seed).await.unwrap()), [10, 10, 11, 11]);
    }
    let one = support::reader(&format!("min_frames = 1\n{FOUR}"));
    let frames = one.draw(&file.with_file_name("clip.mp4#t=0.4,0.44"), 3).await.unwrap();
    assert_eq!((levels(&frames), frames.timestamps), (vec![10; 4], vec![0.0; 4]));
}

#[tokio::test]
async fn folders_of_frames_are_drawn_like_files() {
    let (folder, file) = clip("clip.mp4", (32, 24), 40, LOSSLESS).await;
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).unwrap();
    ffmpeg(&format!("-i {} -pix_fmt rgb24", file.display()), &frames.join("%03d.png"), b"").await;
    let reader = reader(&format!("folder_fps = 25.0\n{FOUR}"));
    for seed in 0..4 {
        let (of_file, of_folder) = (reader.draw(&file, seed).await, reader.draw(&frames, seed).await);
        assert_eq!(levels(&of_file.unwrap()), levels(&of_folder.unwrap()));
    }
}

#[tokio::test]
async fn draws_of_long_videos_are_the_same_by_seeking() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.mp4");
    let source = "-f lavfi -i testsrc2=size=96x72:rate=25:duration=62 -c:v libx264 -preset veryfast -pix_fmt yuv420p";
    ffmpeg(source, &file, b"").await;
    for offsets in ["shared", "independent"] {
        let rule = format!("sampling = {{ rule = \"jittered\", fps = 0.1, offsets = \"{offsets}\" }}");
        let (sought, whole) = (reader(&rule), reader(&format!("{rule}\nseek = false")));
        let (sought, whole) = (sought.draw(&file, 9).await.unwrap(), whole.draw(&file, 9).await.unwrap());
        assert_eq!((sought.len(), &sought.timestamps), (6, &whole.timestamps));
        assert!(sought == whole, "the pixels differ");
    }
}
