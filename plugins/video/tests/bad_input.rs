//! What is wrong with a file is said, with its path, and costs that file only.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use isr_api::ComponentError;
use support::{LOSSLESS, clip, encode, ffmpeg, reader, refusal, uniform};

/// The message for a file of these bytes, with its path as `PATH`.
async fn message(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    refusal(&*uniform(8), &file).await.replace(&file.display().to_string(), "PATH")
}

#[tokio::test]
async fn nothing_there() {
    let message = refusal(&*uniform(8), &PathBuf::from("/nowhere/clip.mp4")).await;
    assert_eq!(message, "video /nowhere/clip.mp4 does not exist: check the path in the data");
}

#[tokio::test]
async fn an_empty_file() {
    assert_eq!(message("clip.mp4", b"").await, "PATH is empty: fetch it again");
}

#[tokio::test]
async fn bytes_that_are_no_video() {
    let garbage: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let text = b"this is no video\n".repeat(40);
    for (name, bytes) in [("a.mp4", &garbage), ("b.mp4", &text), ("c.txt", &text), ("d.nfo", &text)] {
        let message = message(name, bytes).await;
        assert!(message.starts_with("PATH is not a video that can be read: "), "{name}: {message}");
        assert!(!message.contains("0x"), "an address: {message}");
    }
}

#[tokio::test]
async fn a_playlist_cannot_name_other_files() {
    let (folder, _file) = clip("real.mp4", (16, 16), 10, LOSSLESS).await;
    let real = folder.path().join("real.mp4");
    let hls =
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{}\n#EXT-X-ENDLIST\n", real.display());
    let concat = format!("ffconcat version 1.0\nfile '{}'\n", real.display());
    for (name, text) in [("a.m3u8", &hls), ("a.mp4", &hls), ("b.mp4", &concat), ("b.ffconcat", &concat)] {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        let message = refusal(&*reader("allow_damaged = true"), &file).await;
        assert!(message.contains("is not a video that can be read: "), "{name}: {message}");
    }
}

#[tokio::test]
async fn sound_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sound.mp4");
    ffmpeg("-f lavfi -i sine=duration=1 -c:a aac", &file, b"").await;
    assert_eq!(refusal(&*uniform(8), &file).await, format!("{} has no video stream", file.display()));
}

#[tokio::test]
async fn a_single_frame() {
    let (_folder, file) = clip("clip.mp4", (16, 16), 1, LOSSLESS).await;
    let expected = format!("{} has 1 frame, fewer than the 2 of `video.min_frames`", file.display());
    assert_eq!(refusal(&*uniform(8), &file).await, expected);
    assert_eq!(reader("min_frames = 1").read(&file).await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_truncated_file() {
    let (folder, file) = clip("clip.mp4", (64, 48), 50, &format!("{LOSSLESS} -movflags +faststart")).await;
    let bytes = fs::read(&file).unwrap();
    for share in [99, 90, 70, 50] {
        let cut = folder.path().join(format!("cut-{share}.mp4"));
        fs::write(&cut, &bytes[..bytes.len() * share / 100]).unwrap();
        let message = refusal(&*uniform(8), &cut).await;
        assert!(message.contains("is damaged ("), "{share} %: {message}");
    }
    let head = folder.path().join("head.mp4");
    fs::write(&head, &bytes[..200]).unwrap();
    refusal(&*uniform(8), &head).await;
}

#[tokio::test]
async fn corrupted_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mp4");
    let noise = "-f lavfi -i testsrc2=size=128x96:rate=25:duration=2 -c:v libx264 -pix_fmt yuv420p";
    ffmpeg(noise, &file, b"").await;
    let mut bytes = fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 200].iter_mut().for_each(|byte| *byte ^= 0xa5);
    fs::write(&file, &bytes).unwrap();
    let message = refusal(&*uniform(8), &file).await;
    assert!(message.contains("is damaged (") && message.contains("fetch it again"), "{message}");
}

#[tokio::test]
async fn a_frame_size_that_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.h264"), folder.path().join("b.h264"));
    encode(&a, (64, 64), &[1, 2, 3], "-c:v libx264 -pix_fmt yuv420p").await;
    encode(&b, (32, 64), &[1, 2, 3], "-c:v libx264 -pix_fmt yuv420p").await;
    let both = folder.path().join("both.h264");
    fs::write(&both, [fs::read(&a).unwrap(), fs::read(&b).unwrap()].concat()).unwrap();
    let message = refusal(&*uniform(8), &both).await;
    assert!(message.ends_with("changes its frame format on the way: re-encode it with one"), "{message}");
}

#[tokio::test]
async fn frames_too_large() {
    let (_folder, file) = clip("clip.mp4", (64, 64), 4, LOSSLESS).await;
    let message = refusal(&*reader("max_pixels = 4095"), &file).await;
    assert!(message.contains("have more than 4095 pixels"), "{message}");
    assert!(reader("max_pixels = 4096").read(&file).await.is_ok());
}

#[tokio::test]
async fn too_slow() {
    let (_folder, file) = clip("clip.mp4", (16, 16), 4, LOSSLESS).await;
    let message = refusal(&*reader("timeout_seconds = 0.001"), &file).await;
    assert!(message.starts_with(&format!("{} took longer than 0.", file.display())), "{message}");
    assert!(
        message.ends_with("raise `video.timeout_seconds` (0.001) or `video.timeout_per_frame` (0.05)"),
        "{message}"
    );
    let longer = reader("timeout_seconds = 0.001\ntimeout_per_frame = 1e9");
    assert!(longer.read(&file).await.is_err(), "nothing is decoded within a millisecond");
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.mp4");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let message = refusal(&*uniform(8), &pipe).await;
    assert_eq!(message, format!("{} is neither a file nor a folder", pipe.display()));
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, file) = clip("clip.mp4", (16, 16), 4, LOSSLESS).await;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&file).is_ok() {
        return; // Root reads everything.
    }
    let message = refusal(&*uniform(8), &file).await;
    assert!(message.starts_with("cannot read ") && message.contains("ermission denied"), "{message}");
}

#[tokio::test]
async fn one_bad_file_does_not_disturb_another() {
    let (folder, file) = clip("clip.mp4", (16, 16), 20, LOSSLESS).await;
    let bad = folder.path().join("bad.mp4");
    fs::write(&bad, b"nothing").unwrap();
    let reader = uniform(8);
    let (good, refused) = tokio::join!(reader.read(&file), reader.read(&bad));
    assert_eq!(good.unwrap().len(), 8);
    assert!(matches!(refused, Err(ComponentError::BadInput(_))));
}

/// Run by the next test in a process of its own, where `ISR_FFMPEG` is wrong.
#[tokio::test]
#[ignore = "only with a wrong ISR_FFMPEG"]
async fn without_ffmpeg() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mp4");
    fs::write(&file, b"anything").unwrap();
    match uniform(8).read(&file).await {
        Err(ComponentError::Failed(cause)) => println!("said: {cause}"),
        other => panic!("expected a failure of the component, got {other:?}"),
    }
}

#[test]
fn a_missing_ffmpeg_is_not_the_videos_fault() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "without_ffmpeg", "--nocapture"])
        .env("ISR_FFMPEG", "/nowhere/ffmpeg")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("said: ISR_FFMPEG is `/nowhere/ffmpeg`, which is no executable file"), "{text}");
}

/// Run by the next test in a process of its own, where `ISR_FFMPEG` is a program that fails.
#[tokio::test]
#[ignore = "only with a failing ISR_FFMPEG"]
async fn with_a_failing_ffmpeg() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.mp4");
    fs::write(&file, b"anything").unwrap();
    match uniform(8).read(&file).await {
        Err(ComponentError::Failed(cause)) => println!("stopped: {cause}"),
        Err(ComponentError::BadInput(cause)) => println!("quarantined: {cause}"),
        other => panic!("expected an error, got {other:?}"),
    }
}

#[cfg(unix)]
#[test]
fn shortage_of_the_machine_is_not_the_videos_fault() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ffmpeg");
    let line = |text: &str| format!("echo '{text}' >&2; exit 1");
    for (script, expected, part) in [
        (line("[fatal] pthread_create() failed: Resource temporarily unavailable"), "stopped", "ulimit -u"),
        (line("[h264 @ 0x1] [error] Resource temporarily unavailable"), "stopped", "video.processes"),
        (line("[in#0 @ 0x1] [error] Error opening input: Too many open files"), "stopped", "ulimit -n"),
        (line("[error] av_interleaved_write_frame(): No space left on device"), "stopped", "make room"),
        (line("[error] Cannot allocate memory"), "stopped", "video.memory_mib"),
        ("kill -KILL $$".into(), "stopped", "run out of memory"),
        ("kill -TERM $$".into(), "stopped", "nothing ends its processes"),
        (line("[info] Exiting normally, received signal 15."), "stopped", "told to end"),
        ("kill -SEGV $$".into(), "quarantined", "crashed"),
        (line("[h264 @ 0x1] [error] no frame!"), "quarantined", "no frame!"),
    ] {
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "with_a_failing_ffmpeg", "--nocapture"])
            .env("ISR_FFMPEG", &program)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("{expected}: ")) && text.contains(part), "{script}: {text}");
    }
}

/// Run by the next test in processes of its own.
#[test]
#[ignore = "only with an ISR_FFMPEG that says a version"]
fn fingerprint_with_this_ffmpeg() {
    println!("fingerprint {}.", uniform(8).fingerprint());
}

#[cfg(unix)]
#[test]
fn the_fingerprint_follows_the_version_of_ffmpeg() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let fingerprint = |version: &str| {
        let program = folder.path().join(version);
        fs::write(&program, format!("#!/bin/sh\necho 'ffmpeg version {version} Copyright'\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "fingerprint_with_this_ffmpeg", "--nocapture"])
            .env("ISR_FFMPEG", &program)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let start = text.find("fingerprint ").unwrap_or_else(|| panic!("{text}"));
        text[start..].split('.').next().unwrap().to_owned()
    };
    assert_eq!(fingerprint("7.0"), fingerprint("7.0"));
    assert_ne!(fingerprint("7.0"), fingerprint("7.1"));
}
