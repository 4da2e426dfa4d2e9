//! Makes videos whose frames say which they are, and reads them as a config would.

#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isr_api::{BuildContext, ComponentError, Frames, VideoReader};
use isr_config::registry::VideoConfig;
use isr_ffmpeg::{Ending, Limits};
// The component is there because its crate is linked.
use isr_video as _;

/// A reader from the body of a `[video]` section.
pub(crate) fn reader(section: &str) -> Arc<dyn VideoReader> {
    let config: Box<dyn VideoConfig> = toml::from_str(&format!("type = \"ffmpeg\"\n{section}")).unwrap();
    config.build(&BuildContext::default()).unwrap()
}

/// A reader that takes `frames` evenly spaced frames.
pub(crate) fn uniform(frames: usize) -> Arc<dyn VideoReader> {
    reader(&format!("sampling = {{ rule = \"uniform\", frames = {frames} }}"))
}

/// The message of a read that must fail for the video's own fault.
pub(crate) async fn refusal(reader: &dyn VideoReader, video: &Path) -> String {
    match reader.read(video).await {
        Err(ComponentError::BadInput(cause)) => cause.to_string(),
        other => panic!("expected bad input, got {other:?}"),
    }
}

/// Runs ffmpeg, which must succeed.
pub(crate) async fn ffmpeg(args: &str, file: &Path, input: &[u8]) {
    ffmpeg_within(Duration::from_secs(120), args, file, input).await;
}

/// Runs ffmpeg, which must succeed within a time.
pub(crate) async fn ffmpeg_within(wall: Duration, args: &str, file: &Path, input: &[u8]) {
    let mut words: Vec<OsString> = ["-v", "error", "-y"].iter().map(OsString::from).collect();
    words.extend(args.split_whitespace().map(OsString::from));
    words.push(file.into());
    let limits = Limits { wall, memory: 4 << 30, output: 1 << 20 };
    let mut log = Vec::new();
    let program = isr_ffmpeg::locate().unwrap();
    let outcome = isr_ffmpeg::run(&program, &words, input, &limits, &mut |line| log.push(line.to_owned()))
        .await
        .unwrap();
    assert!(matches!(outcome.ending, Ending::Exited(status) if status.success()), "{args}: {log:?}");
}

/// Lossless RGB in H.264, with B-frames, so that order of decoding and of showing differ.
pub(crate) const LOSSLESS: &str = "-c:v libx264rgb -qp 0 -bf 2 -g 12";

/// Writes frames of one gray level each, at 25 frames a second.
pub(crate) async fn encode(file: &Path, size: (usize, usize), levels: &[u8], codec: &str) {
    let input: Vec<u8> = levels.iter().flat_map(|level| vec![*level; size.0 * size.1 * 3]).collect();
    let args = format!("-f rawvideo -pix_fmt rgb24 -s {}x{} -r 25 -i pipe:0 {codec}", size.0, size.1);
    ffmpeg(&args, file, &input).await;
}

/// A folder, and in it `clip.EXTENSION` of that many frames, frame `i` of the gray level `i`.
pub(crate) async fn clip(
    name: &str,
    size: (usize, usize),
    frames: u8,
    codec: &str,
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    encode(&file, size, &(0..frames).collect::<Vec<_>>(), codec).await;
    (folder, file)
}

/// The gray level of each frame; panics where a frame is not of one level.
pub(crate) fn levels(frames: &Frames) -> Vec<u8> {
    assert_eq!(frames.rgb.len(), frames.len() * frames.frame_bytes());
    let level = |index| {
        let frame = frames.frame(index).unwrap();
        assert!(frame.iter().all(|value| *value == frame[0]), "frame {index} is not of one level");
        frame[0]
    };
    (0..frames.len()).map(level).collect()
}
