//! Clips as data sets and phones have them: which are read, and which are refused.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{LOSSLESS, ffmpeg, reader, refusal, uniform};
use tempfile::{TempDir, tempdir};

/// Six seconds at 25 frames a second; each GOP leans on the one before it.
const OPEN_GOP: &str = "-f lavfi -i testsrc2=duration=6:size=128x96 -c:v libx264 -pix_fmt yuv420p -x264-params \
                        open-gop=1:keyint=40:bframes=5:ref=6";

/// A folder with `whole.mp4`.
async fn open_gop() -> TempDir {
    let folder = tempdir().unwrap();
    ffmpeg(OPEN_GOP, &folder.path().join("whole.mp4"), b"").await;
    folder
}

/// Copies a part of `whole.mp4` from a second on, without encoding it anew.
async fn cut(folder: &Path, name: &str, from: f64) -> PathBuf {
    let file = folder.join(name);
    let whole = folder.join("whole.mp4");
    ffmpeg(&format!("-ss {from} -i {} -t 3 -c copy", whole.display()), &file, b"").await;
    file
}

async fn count(file: &Path) -> usize {
    let all = reader("min_frames = 1\nsampling = { rule = \"fps\", fps = 1000.0, max_frames = 1000 }");
    all.read(file).await.unwrap_or_else(|error| panic!("{}: {error}", file.display())).len()
}

#[tokio::test]
async fn stream_copied_cuts_are_read() {
    let folder = open_gop().await;
    for (name, from) in [("a.mp4", 2.3), ("b.mp4", 1.1), ("c.mkv", 2.3), ("d.mov", 2.3)] {
        let file = cut(folder.path(), name, from).await;
        assert!(count(&file).await >= 75, "{name}");
    }
}

#[tokio::test]
async fn a_damaged_cut_is_refused() {
    let folder = open_gop().await;
    let file = cut(folder.path(), "cut.mp4", 2.3).await;
    let bytes = fs::read(&file).unwrap();
    for (from, to) in [(0.3, 0.32), (0.5, 0.51), (0.8, 0.82)] {
        let at = |share: f64| (bytes.len() as f64 * share) as usize;
        let mut damaged = bytes.clone();
        damaged[at(from)..at(to)].fill(0);
        fs::write(&file, damaged).unwrap();
        let message = refusal(&*uniform(8), &file).await;
        assert!(message.contains("is damaged ("), "{from}: {message}");
    }
    let faststart = folder.path().join("fast.mp4");
    let copy =
        format!("-ss 2.3 -i {} -c copy -movflags +faststart", folder.path().join("whole.mp4").display());
    ffmpeg(&copy, &faststart, b"").await;
    let bytes = fs::read(&faststart).unwrap();
    for share in [95, 60] {
        fs::write(&faststart, &bytes[..bytes.len() * share / 100]).unwrap();
        let message = refusal(&*uniform(8), &faststart).await;
        assert!(message.contains("is damaged ("), "{share} %: {message}");
    }
}

#[tokio::test]
async fn joined_copies_are_read() {
    let folder = open_gop().await;
    let list = folder.path().join("list.txt");
    let mut lines = String::new();
    for (name, from) in [("a.mp4", 2.3), ("b.mp4", 1.1), ("c.mp4", 0.0)] {
        lines += &format!("file '{}'\n", cut(folder.path(), name, from).await.display());
    }
    fs::write(&list, lines).unwrap();
    for name in ["joined.mp4", "joined.mkv"] {
        let file = folder.path().join(name);
        ffmpeg(&format!("-f concat -safe 0 -i {} -c copy", list.display()), &file, b"").await;
        let frames = uniform(8).read(&file).await.unwrap();
        assert!(frames.timestamps.is_sorted(), "{name}: {:?}", frames.timestamps);
    }
}

#[tokio::test]
async fn a_transport_stream_is_read_from_any_packet_on() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.ts");
    let stream =
        "-f lavfi -i testsrc2=duration=4:size=64x64 -c:v libx264 -g 25 -metadata service_name=caf\u{e9}";
    ffmpeg(stream, &file, b"").await;
    assert_eq!(count(&file).await, 100);
    let bytes = fs::read(&file).unwrap();
    let packets = bytes.len() / 188;
    fs::write(&file, &bytes[packets / 3 * 188..]).unwrap();
    let left = count(&file).await;
    assert!((40..75).contains(&left), "whole GOPs of the rest: {left}");
    // A gap in the middle is damage.
    let (half, after) = (packets / 2 * 188, (packets / 2 + 15) * 188);
    fs::write(&file, [&bytes[..half], &bytes[after..]].concat()).unwrap();
    assert!(refusal(&*uniform(8), &file).await.contains("is damaged ("));
}

#[tokio::test]
async fn a_stream_with_lost_frames_is_refused() {
    let folder = tempdir().unwrap();
    let (whole, lossy) = (folder.path().join("whole.mp4"), folder.path().join("lossy.mp4"));
    let hevc = "-f lavfi -i testsrc2=duration=4:size=64x64 -c:v libx265 -x265-params log-level=none";
    ffmpeg(hevc, &whole, b"").await;
    assert_eq!(count(&whole).await, 100);
    let drop = format!("-i {} -c copy -bsf:v noise=drop=eq(n\\,40)", whole.display());
    ffmpeg(&drop, &lossy, b"").await;
    let message = refusal(&*uniform(8), &lossy).await;
    assert!(message.contains("is damaged ("), "{message}");
}

/// Containers and codecs with a claim that is easily misread: name, arguments, number of frames and size.
const ODD: [(&str, &str, usize, (u32, u32)); 15] = [
    ("variable.mp4", "-vf select=mod(n\\,3) -fps_mode vfr -c:v libx264", 16, (64, 48)),
    ("late.mkv", "-c:v libx264 -output_ts_offset 5", 25, (64, 48)),
    ("fragments.mp4", "-c:v libx264 -movflags frag_keyframe+empty_moov", 25, (64, 48)),
    ("av1.mp4", "-frames:v 8 -c:v libaom-av1 -cpu-used 8", 8, (64, 48)),
    ("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8", 25, (64, 48)),
    ("alpha.webm", "-c:v libvpx -pix_fmt yuva420p -auto-alt-ref 0", 25, (64, 48)),
    ("interlaced.ts", "-c:v libx264 -x264-params interlaced=1", 25, (64, 48)),
    ("a.gif", "-vf fps=10", 10, (64, 48)),
    ("odd.mp4", "-vf scale=321:241 -c:v libx264 -pix_fmt yuv444p", 25, (321, 241)),
    ("ten.mp4", "-c:v libx265 -pix_fmt yuv420p10le -x265-params log-level=none", 25, (64, 48)),
    ("one.mp4", "-frames:v 1 -c:v libx264", 1, (64, 48)),
    ("packed.avi", "-c:v libxvid -bf 2", 23, (64, 48)),
    ("a.wmv", "-c:v wmv2", 25, (64, 48)),
    ("a.3gp", "-vf scale=176:144 -c:v h263", 25, (176, 144)),
    ("live.mkv", "-c:v libx264 -f matroska -live 1", 25, (64, 48)),
];

#[tokio::test]
async fn odd_clips_are_counted_by_decoding() {
    let folder = tempdir().unwrap();
    let first = reader("min_frames = 1\nsampling = { rule = \"uniform\", frames = 1 }");
    for (name, args, frames, size) in ODD {
        let file = folder.path().join(name);
        ffmpeg(&format!("-f lavfi -i testsrc2=duration=1:size=64x48 {args}"), &file, b"").await;
        assert_eq!(count(&file).await, frames, "{name}");
        let one = first.read(&file).await.unwrap();
        assert_eq!((one.width, one.height), size, "{name}");
    }
}

#[tokio::test]
async fn rotation_and_edit_lists_are_applied() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let source = "-f lavfi -i testsrc2=duration=2:size=64x48";
    ffmpeg(&format!("{source} -c:v libx264 -g 50"), &at("plain.mp4"), b"").await;
    let plain = at("plain.mp4");
    ffmpeg(&format!("-display_rotation 90 -i {} -c copy", plain.display()), &at("turned.mp4"), b"").await;
    let turned = uniform(2).read(&at("turned.mp4")).await.unwrap();
    assert_eq!((turned.width, turned.height), (48, 64));
    ffmpeg(&format!("-ss 1 -i {} -c copy", plain.display()), &at("edited.mp4"), b"").await;
    assert_eq!(count(&at("edited.mp4")).await, 25, "the edit list leaves out the first second");
}

#[tokio::test]
async fn names_are_names_and_nothing_else() {
    let folder = tempdir().unwrap();
    let plain = folder.path().join("plain.mp4");
    ffmpeg(&format!("-f lavfi -i testsrc=size=16x16:duration=1 {LOSSLESS}"), &plain, b"").await;
    for name in [
        "it's \"so\".mp4",
        "a%03d.mp4",
        "C:b.mp4",
        "a\nb.mp4",
        "a#?b=c&d.mp4",
        "\u{1f3a5} \u{e4}.mp4",
        "-y",
    ] {
        let odd = folder.path().join(name);
        fs::copy(&plain, &odd).unwrap();
        assert_eq!(uniform(4).read(&odd).await.unwrap().len(), 4, "{name:?}");
    }
}

#[tokio::test]
async fn what_is_no_video_is_refused() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    ffmpeg("-f lavfi -i color=red:size=32x32 -frames:v 1", &at("cover.png"), b"").await;
    let cover = format!(
        "-f lavfi -i sine=duration=1 -i {} -map 0 -map 1 -c:a aac -c:v png -disposition:v attached_pic",
        at("cover.png").display()
    );
    ffmpeg(&cover, &at("song.m4a"), b"").await;
    assert!(refusal(&*uniform(2), &at("song.m4a")).await.ends_with("has no video stream"));
    ffmpeg("-f lavfi -i testsrc=size=32x32:duration=1 -c:v libwebp_anim", &at("a.webp"), b"").await;
    // Still WebP is read; FFmpeg 7 does not decode animations.
    refusal(&*uniform(2), &at("a.webp")).await;
    for (name, codec) in [("a.webm", "libvpx"), ("a.mp4", "libx264")] {
        ffmpeg(&format!("-f lavfi -i testsrc2=size=64x64:duration=2 -c:v {codec}"), &at(name), b"").await;
        let bytes = fs::read(at(name)).unwrap();
        fs::write(at(name), &bytes[..bytes.len() * 7 / 10]).unwrap();
        refusal(&*uniform(2), &at(name)).await;
    }
}

/// A limit that the first second of work exceeds is put off by each frame.
#[tokio::test]
async fn the_limit_grows_with_the_video() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("long.mp4");
    let long =
        "-f lavfi -i testsrc2=size=640x360:duration=24 -c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    ffmpeg(long, &file, b"").await;
    let message = refusal(&*reader("timeout_seconds = 0.05\ntimeout_per_frame = 0.0"), &file).await;
    assert!(
        message.contains("timeout_seconds` (0.05)") && message.contains("timeout_per_frame` (0)"),
        "{message}"
    );
    // Far more than any machine needs for the first frame, and for each of the others.
    let frames = reader("timeout_seconds = 30\ntimeout_per_frame = 10.0").read(&file).await.unwrap();
    assert_eq!(frames.len(), 8);
}
