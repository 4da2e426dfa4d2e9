//! The video or image of a row: named by a path, or embedded in the table and stored as a file.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use isr_api::Fingerprint;
use serde_json::{Value, json};

use crate::error::DataError;
use crate::row::Object;

/// Keys of media, in the order of their search: a list of videos, a video, the same of images.
pub(crate) const MEDIA_KEYS: [&str; 4] = ["videos", "video", "images", "image"];

/// First bytes of media files at an offset, and the ending of their names. FFmpeg looks at the bytes, not at the name.
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

/// A folder in which embedded media are stored, each under the digest of its bytes.
pub(crate) struct MediaStore {
    folder: PathBuf,
    failed: RefCell<Option<DataError>>,
}

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
}

/// Path of the row's video or image below `root`; `None` if it has none. With `frames_beside`, images beside a video are its
/// frames and are left out.
///
/// # Errors
/// More than one video or image, a value that names none, and a path at which there is nothing.
pub(crate) fn of_row(row: &Object, root: &Path, frames_beside: bool) -> Result<Option<PathBuf>, String> {
    let mut found: Option<(&str, PathBuf)> = None;
    for key in MEDIA_KEYS {
        let Some(value) = row.get(key).filter(|value| !is_nothing(value)) else { continue };
        match &found {
            Some((first, _)) if frames_beside && first.starts_with("video") && key.starts_with("image") => {
            }
            Some((first, _)) => {
                return Err(format!("it has both `{first}` and `{key}`; one video or image is supported"));
            }
            None => found = Some((key, of_value(key, value, root)?)),
        }
    }
    Ok(found.map(|(_, path)| path))
}

/// Path that a value names: a text, an object with `path` or stored `bytes`, or a list of one of them.
pub(crate) fn of_value(key: &str, value: &Value, root: &Path) -> Result<PathBuf, String> {
    let path = match value {
        Value::Array(items) => match items.as_slice() {
            [one] => return of_value(key, one, root),
            items => {
                let count = items.len();
                return Err(format!("`{key}` has {count} entries; one video or image is supported"));
            }
        },
        Value::String(path) => root.join(path.strip_prefix("file://").unwrap_or(path)),
        Value::Object(parts) => {
            let named = parts.get("path").and_then(Value::as_str).filter(|path| !path.is_empty());
            // The path beside bytes is the name that the file once had.
            match (parts.get("bytes").and_then(|bytes| bytes.get("file")).and_then(Value::as_str), named) {
                (Some(stored), _) => PathBuf::from(stored),
                (None, Some(path)) => root.join(path),
                (None, None) => return Err(format!("`{key}` is an object without `path` or `bytes`")),
            }
        }
        _ => return Err(format!("`{key}` is no path")),
    };
    match path.exists() {
        true => Ok(path),
        false => Err(format!("`{key}` names {}, which does not exist", path.display())),
    }
}

/// Whether a value stands for no media.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        _ => false,
    }
}
