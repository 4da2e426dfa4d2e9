//! Identity of video files: what tells whether a path still holds the same video, for a fraction of its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use futures::{StreamExt, stream};
use isr_api::{ComponentError, Fingerprint, FingerprintBuilder, VideoSpan, video_key};

/// Files up to this size are read whole.
const WHOLE: u64 = 1 << 20;
/// Number of blocks that are read of a larger file: the first, the last, and others evenly between them.
const BLOCKS: u64 = 8;
/// Bytes of a block.
const BLOCK: usize = 1 << 16;
/// Bytes that are read at both ends of a frame in a folder of frames.
const FRAME_END: usize = 1 << 12;
/// Videos that are read at a time.
const AT_ONCE: usize = 16;

/// Identities by video key.
pub(crate) type Identities = BTreeMap<String, Fingerprint>;

/// Computes the identities of videos. One that cannot be read has none: its samples will be quarantined.
///
/// # Errors
/// [`ComponentError::Panicked`] if a reading thread panics.
pub(crate) async fn identities(videos: BTreeSet<PathBuf>) -> Result<Identities, ComponentError> {
    let identify = |video: PathBuf| {
        tokio::task::spawn_blocking(move || Some((video_key(&video), identity(&video).ok()?)))
    };
    let mut found = stream::iter(videos).map(identify).buffer_unordered(AT_ONCE);
    let mut identities = Identities::new();
    while let Some(identity) = found.next().await {
        identities.extend(identity.map_err(|error| ComponentError::Panicked(error.to_string()))?);
    }
    Ok(identities)
}

/// The digest of a video's size and sampled content; of a folder, that of the names, sizes and ends of its files.
/// Copies are equal, whatever their times; parts of a video differ by their spans. Blocking.
///
/// # Errors
/// A file or folder that is missing or cannot be read.
pub(crate) fn identity(video: &Path) -> io::Result<Fingerprint> {
    let mut digest = FingerprintBuilder::default();
    let (video, span) = VideoSpan::split(video);
    if let Some(span) = span {
        digest.update(span.to_string().as_bytes());
    }
    if !fs::metadata(video)?.is_dir() {
        digest.update(b"file");
        add_file(&mut digest, video, WHOLE, BLOCKS, BLOCK)?;
        return Ok(digest.finish());
    }
    digest.update(b"folder");
    let entries = fs::read_dir(video)?.collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    for file in files {
        digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        add_file(&mut digest, &file, 2 * FRAME_END as u64, 2, FRAME_END)?;
    }
    Ok(digest.finish())
}

/// Adds the size of a file, and its content: whole up to `whole` bytes, else in blocks.
fn add_file(
    digest: &mut FingerprintBuilder,
    path: &Path,
    whole: u64,
    blocks: u64,
    block: usize,
) -> io::Result<()> {
    let mut file = File::open(path)?;
    let data = file.metadata()?;
    if !data.is_file() {
        // A device or a pipe has no end.
        return Err(io::Error::other("it is no regular file"));
    }
    let size = data.len();
    digest.update(&size.to_le_bytes());
    let mut bytes = Vec::new();
    if size <= whole {
        file.take(whole).read_to_end(&mut bytes)?;
        digest.update(&bytes);
        return Ok(());
    }
    let last = size - block as u64;
    for index in 0..blocks {
        bytes.clear();
        // Without an overflow for files of petabytes.
        let start = (u128::from(last) * u128::from(index) / u128::from(blocks - 1)) as u64;
        file.seek(SeekFrom::Start(start))?;
        file.by_ref().take(block as u64).read_to_end(&mut bytes)?;
        digest.update(&bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_equal_and_changed_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for size in [0, 10, WHOLE as usize, 3 << 20] {
            let bytes: Vec<u8> = (0..size).map(|index| (index * 7 % 251) as u8).collect();
            fs::write(at("a"), &bytes).unwrap();
            fs::write(at("copy"), &bytes).unwrap();
            let a = identity(&at("a")).unwrap();
            assert_eq!(a, identity(&at("copy")).unwrap());
            fs::write(at("longer"), [&bytes[..], b"x"].concat()).unwrap();
            assert_ne!(a, identity(&at("longer")).unwrap());
            // The first and the last byte, and whichever of a small file.
            let places = [Some(0), size.checked_sub(1), (size <= WHOLE as usize).then_some(size / 2)];
            for place in places.into_iter().flatten().filter(|place| *place < size) {
                let mut other = bytes.clone();
                other[place] ^= 1;
                fs::write(at("other"), &other).unwrap();
                assert_ne!(a, identity(&at("other")).unwrap(), "byte {place} of {size}");
            }
        }
        assert_ne!(identity(&at("a")).unwrap(), identity(&at("a#t=1,2")).unwrap(), "a part of it");
        assert!(identity(&at("missing")).is_err() && identity(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn a_folder_is_its_frames_with_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str, frames: &[(&str, &[u8])]| {
            fs::create_dir(dir.path().join(name)).unwrap();
            for (frame, bytes) in frames {
                fs::write(dir.path().join(name).join(frame), bytes).unwrap();
            }
            identity(&dir.path().join(name)).unwrap()
        };
        let big = vec![3; 20_000];
        let a = folder("a", &[("1.jpg", &big), ("2.jpg", b"2")]);
        assert_eq!(a, folder("b", &[("2.jpg", b"2"), ("1.jpg", &big)]));
        assert_ne!(a, folder("c", &[("1.jpg", &big), ("3.jpg", b"2")]));
        assert_ne!(a, folder("d", &[("1.jpg", &big), ("2.jpg", b"3")]));
        assert_ne!(a, folder("e", &[("1.jpg", &big[1..]), ("2.jpg", b"2")]));
    }

    #[tokio::test]
    async fn what_cannot_be_read_has_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        let clip = dir.path().join("clip.mp4");
        fs::write(&clip, "x").unwrap();
        let found = identities([clip.clone(), dir.path().join("none")].into()).await.unwrap();
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [video_key(&clip)]);
    }
}
