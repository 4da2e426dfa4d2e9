//! The video or image of a row: named by a path, or embedded in the table and stored as a file.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use isr_api::{Fingerprint, FingerprintBuilder, VideoSpan};
use serde_json::{Value, json};

use crate::error::DataError;
use crate::row::Object;

/// Keys of media, in the order of their search: a list of videos, a video, the same of images.
pub(crate) const MEDIA_KEYS: [&str; 4] = ["videos", "video", "images", "image"];

/// First bytes of media files at an offset, and the ending of their names. FFmpeg looks at the bytes, not at the name.
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "Parquet files alone contain media"))]
const SIGNATURES: [(usize, &[u8], &str); 8] = [
    (0, b"\x89PNG", "png"),
    (0, b"\xff\xd8", "jpg"),
    (8, b"WEBP", "webp"),
    (4, b"ftyp", "mp4"),
    (0, b"\x1aE\xdf\xa3", "webm"),
    (8, b"AVI ", "avi"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
];

/// Endings of frames.
const FRAMES: [&str; 3] = ["png", "jpg", "jpeg"];

/// A folder in which embedded media are stored, each under the digest of its bytes.
pub(crate) struct MediaStore {
    folder: PathBuf,
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "Parquet files alone contain media"))]
    failed: RefCell<Option<DataError>>,
}

#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "Parquet files alone contain media"))]
impl MediaStore {
    /// A store in `folder`, by default `isr-dpo/media` of the user's cache directory, else `isr-media`.
    pub(crate) fn new(folder: Option<&Path>) -> Self {
        let default = || match isr_config::default_feature_cache_dir() {
            Some(features) => features.with_file_name("media"),
            None => PathBuf::from("isr-media"),
        };
        Self { folder: folder.map_or_else(default, Path::to_owned), failed: RefCell::default() }
    }

    /// Stores bytes, and returns `{"file": path}`. An error is kept for [`error`](Self::error).
    pub(crate) fn value(&self, bytes: &[u8]) -> Value {
        match self.store(bytes) {
            Ok(path) => json!({ "file": path }),
            Err(source) => {
                self.failed.borrow_mut().get_or_insert_with(|| DataError::io(&self.folder)(source));
                Value::Null
            }
        }
    }

    /// The first error of storing, once.
    pub(crate) fn error(&self) -> Option<DataError> {
        self.failed.borrow_mut().take()
    }

    fn store(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let is = |(at, start, _): &&(usize, &[u8], &str)| {
            bytes.get(*at..).is_some_and(|it| it.starts_with(start))
        };
        let ending = SIGNATURES.iter().find(is).map_or("bin", |(.., ending)| ending);
        let path = self.folder.join(format!("{}.{ending}", Fingerprint::of(bytes)));
        if fs::metadata(&path).is_ok_and(|there| there.len() == bytes.len() as u64) {
            return Ok(path);
        }
        fs::create_dir_all(&self.folder)?;
        // Other processes may store the same bytes.
        let aside = path.with_extension(format!("{}.part", std::process::id()));
        fs::write(&aside, bytes)?;
        fs::rename(&aside, &path)?;
        Ok(path)
    }

    /// A folder of these frames in their order, named by their content.
    fn folder_of(&self, frames: &[PathBuf]) -> io::Result<PathBuf> {
        let mut digest = FingerprintBuilder::default();
        for frame in frames {
            digest.update(Fingerprint::of(fs::read(frame)?).as_str().as_bytes());
        }
        let folder = self.folder.join(digest.finish().as_str());
        if folder.is_dir() {
            return Ok(folder);
        }
        let aside = folder.with_extension(format!("{}.part", std::process::id()));
        fs::create_dir_all(&aside)?;
        for (number, frame) in frames.iter().enumerate() {
            let ending = frame.extension().unwrap_or_default().to_string_lossy();
            fs::copy(frame, aside.join(format!("{number:06}.{ending}")))?;
        }
        match fs::rename(&aside, &folder) {
            // Another process was first.
            Err(_) if folder.is_dir() => fs::remove_dir_all(&aside).map(|()| folder),
            outcome => outcome.map(|()| folder),
        }
    }
}

/// Where media of a file's rows are: the base of relative paths, and the store of embedded ones.
#[derive(Clone, Copy)]
pub(crate) struct Media<'a> {
    pub(crate) root: &'a Path,
    pub(crate) store: &'a MediaStore,
}

impl Media<'_> {
    /// Path of the row's video or image; `None` if it has none. With `frames_beside`, images beside a video are its frames
    /// and are left out.
    ///
    /// # Errors
    /// More than one video or image, a value that names none, and a path at which there is nothing.
    pub(crate) fn of_row(self, row: &Object, frames_beside: bool) -> Result<Option<PathBuf>, String> {
        let mut found: Option<(&str, PathBuf)> = None;
        for key in MEDIA_KEYS {
            let Some(value) = row.get(key).filter(|value| !is_nothing(value)) else { continue };
            match &found {
                Some((first, _))
                    if frames_beside && first.starts_with("video") && key.starts_with("image") => {}
                Some((first, _)) => {
                    return Err(format!(
                        "it has both `{first}` and `{key}`; one video or image is supported"
                    ));
                }
                None => found = Some((key, self.of_value(key, value)?)),
            }
        }
        Ok(found.map(|(_, path)| path))
    }

    /// Path that a value names: a text, an object with `path` or stored `bytes`, a list of one of them, or unless the key is
    /// of images a list of frames.
    pub(crate) fn of_value(self, key: &str, value: &Value) -> Result<PathBuf, String> {
        match value {
            Value::Array(items) => match items.as_slice() {
                [one] => self.of_value(key, one),
                frames if !key.starts_with("image") && !frames.is_empty() => self.of_frames(key, frames),
                items => {
                    let count = items.len();
                    Err(format!("`{key}` has {count} entries; one video or image is supported"))
                }
            },
            Value::String(path) => self.existing(key, path.strip_prefix("file://").unwrap_or(path)),
            Value::Object(parts) => {
                let named = parts.get("path").and_then(Value::as_str).filter(|path| !path.is_empty());
                let stored = parts.get("bytes").and_then(|bytes| bytes.get("file")).and_then(Value::as_str);
                match (stored, named) {
                    // The path beside bytes is the name that the file once had.
                    (Some(stored), _) => Ok(PathBuf::from(stored)),
                    (None, Some(path)) => self.existing(key, path),
                    (None, None) => Err(format!("`{key}` is an object without `path` or `bytes`")),
                }
            }
            _ => Err(format!("`{key}` is no path")),
        }
    }

    fn existing(self, key: &str, path: &str) -> Result<PathBuf, String> {
        let path = self.root.join(path);
        match VideoSpan::split(&path).0.exists() {
            true => Ok(path),
            false => Err(format!("`{key}` names {}, which does not exist", path.display())),
        }
    }

    /// A folder of frames, of images in the order of a list.
    fn of_frames(self, key: &str, items: &[Value]) -> Result<PathBuf, String> {
        let frames: Vec<PathBuf> =
            items.iter().map(|item| self.of_value(key, item)).collect::<Result<_, _>>()?;
        let is_image = |path: &PathBuf| {
            FRAMES.iter().any(|ending| path.extension().is_some_and(|it| it.eq_ignore_ascii_case(ending)))
        };
        if let Some(other) = frames.iter().find(|path| !is_image(path)) {
            let count = frames.len();
            return Err(format!(
                "`{key}` has {count} entries, and {} is no frame (PNG or JPEG); one video or image is supported",
                other.display()
            ));
        }
        self.store
            .folder_of(&frames)
            .map_err(|error| format!("the frames of `{key}` cannot be stored: {error}"))
    }
}

/// Whether a value stands for no media.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(parts) => parts.values().all(Value::is_null),
        _ => false,
    }
}
