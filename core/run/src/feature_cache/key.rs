//! Digests of videos and frames.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use isr_api::{Fingerprint, FingerprintBuilder, Frames, VideoSpan};

/// Digest of a video: the content of a file, or the sorted names and contents of the files in a folder of frames; and the
/// span of a part.
/// Blocking.
pub(crate) fn video_digest(video: &Path) -> io::Result<Fingerprint> {
    let mut digest = FingerprintBuilder::default();
    let (video, span) = VideoSpan::split(video);
    if let Some(span) = span {
        digest.update(span.to_string().as_bytes());
    }
    if !video.is_dir() {
        digest.update(b"file").update(content(video)?.as_bytes());
        return Ok(digest.finish());
    }
    digest.update(b"folder");
    let entries = fs::read_dir(video)?.collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<_> =
        entries.into_iter().map(|entry| entry.path()).filter(|it| it.is_file()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        digest.update(name.as_bytes()).update(content(&file)?.as_bytes());
    }
    Ok(digest.finish())
}

/// Digest of decoded frames: size, pixels, timestamps and duration.
pub(crate) fn frames_digest(frames: &Frames) -> Fingerprint {
    let Frames { width, height, rgb, timestamps, duration } = frames;
    let mut digest = FingerprintBuilder::default();
    digest.update(&width.to_le_bytes()).update(&height.to_le_bytes()).update(rgb);
    for time in timestamps.iter().chain([duration]) {
        digest.update(&time.to_le_bytes());
    }
    digest.finish()
}

/// BLAKE3 of a file, read as a stream.
fn content(path: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize())
}
