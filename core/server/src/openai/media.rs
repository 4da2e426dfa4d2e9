//! Decoding and caching of videos and images in requests.
//!
//! Media are data URLs in the request or files of allowed folders; nothing is fetched over the network. Decoded media are
//! cached by a content digest: a judge asks about the same frames twice, and the policy reuses the prefix of a known video.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use isr_api::{
    ComponentError, Fingerprint, FingerprintBuilder, Frames, VideoEncoder, VideoInput, VideoReader,
};
use isr_run::VideoMemory;

use crate::openai::allowed::AllowedFolders;
use crate::openai::error::ApiError;

/// Padding is optional, since clients differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Type of a media part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    Image,
    Video,
}

/// Location of a medium.
enum Place {
    /// Bytes of a data URL.
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Reader and cache of media.
pub(crate) struct Media {
    pub(crate) videos: Arc<dyn VideoReader>,
    pub(crate) images: Arc<dyn VideoReader>,
    pub(crate) encoder: Option<Arc<dyn VideoEncoder>>,
    pub(crate) allowed: AllowedFolders,
    known: VideoMemory<Fingerprint>,
}

impl Media {
    pub(crate) fn new(
        videos: Arc<dyn VideoReader>,
        images: Arc<dyn VideoReader>,
        encoder: Option<Arc<dyn VideoEncoder>>,
        allowed: AllowedFolders,
        budget: u64,
    ) -> Self {
        Self { videos, images, encoder, allowed, known: VideoMemory::new(budget) }
    }

    /// Decodes the medium behind a URL, or takes it from the cache. `at` is its JSON path in the request, for errors.
    pub(crate) async fn open(&self, medium: Medium, url: &str, at: &str) -> Result<VideoInput, ApiError> {
        let place = match url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
            Some("data") => Place::Bytes(decode(url, at).await?),
            Some("file") => Place::File(self.allowed.file(url, at).await?),
            _ => {
                let message = format!(
                    "{at}: this server fetches nothing; send a data URL (`data:...;base64,...`), or a \
                     `file:` URL in a folder of --allow-dir"
                );
                return Err(ApiError::bad_value(at, message));
            }
        };
        let (place, key) = keyed(medium, place).await.map_err(|error| at_fault(error, at))?;
        let name = match &place {
            Place::Bytes(_) => PathBuf::from(format!("data:{key}")),
            Place::File(path) => path.clone(),
        };
        self.known
            .get_or_open(&key, async {
                let frames = self.read(medium, place).await.map_err(|error| at_fault(error, at))?;
                let frames = Arc::new(frames);
                let features = match &self.encoder {
                    Some(encoder) => Some(Arc::new(encoder.encode(&frames).await?)),
                    None => None,
                };
                Ok(VideoInput { video: name, frames, features })
            })
            .await
    }

    async fn read(&self, medium: Medium, place: Place) -> Result<Frames, ComponentError> {
        let (reader, place) = match (medium, place) {
            (Medium::Image, Place::File(path)) => (
                &self.images,
                Place::Bytes(tokio::fs::read(path).await.map_err(ComponentError::bad_input)?),
            ),
            (Medium::Image, place) => (&self.images, place),
            (Medium::Video, place) => (&self.videos, place),
        };
        match place {
            Place::File(path) => reader.read(&path).await,
            Place::Bytes(bytes) => {
                let name = (medium == Medium::Image).then(|| image_name(&bytes)).flatten();
                let aside =
                    blocking(move || put_aside(name, &bytes)).await?.map_err(ComponentError::failed)?;
                // A lone picture is a folder of frames.
                let path =
                    if name.is_some() { aside.path().to_owned() } else { aside.path().join("medium") };
                let outcome = reader.read(&path).await;
                let outcome = outcome.map_err(|error| without_path(error, aside.path(), name));
                // Its removal is on disk.
                drop(blocking(move || drop(aside)).await);
                outcome
            }
        }
    }
}

/// Cache key of a medium: a digest of its bytes, or of a file's path, size and modification time.
async fn keyed(medium: Medium, place: Place) -> Result<(Place, Fingerprint), ComponentError> {
    let digest = move || {
        let mut builder = FingerprintBuilder::default();
        builder.update(if medium == Medium::Image { b"image" } else { b"video" });
        match &place {
            Place::Bytes(bytes) => builder.update(b"data").update(bytes),
            Place::File(path) => {
                let data = std::fs::metadata(path).map_err(ComponentError::bad_input)?;
                let modified = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let nanoseconds = modified.unwrap_or_default().as_nanos();
                let path = path.as_os_str().as_encoded_bytes();
                builder.update(path).update(&data.len().to_le_bytes()).update(&nanoseconds.to_le_bytes())
            }
        };
        let key = builder.finish();
        Ok((place, key))
    };
    blocking(digest).await?
}

/// The bytes of a data URL (RFC 2397), base64 only.
async fn decode(url: &str, at: &str) -> Result<Vec<u8>, ApiError> {
    let text = url.to_owned();
    let decoded = blocking(move || {
        let (head, data) = text.split_once(',').ok_or("it has no comma")?;
        if !head.to_ascii_lowercase().ends_with(";base64") {
            return Err("it must be base64: `data:image/png;base64,...`".to_owned());
        }
        BASE64.decode(data.trim()).map_err(|error| error.to_string())
    })
    .await?;
    decoded.map_err(|reason| ApiError::bad_value(at, format!("{at}: this is no data URL: {reason}")))
}

/// Writes the bytes to a file in a temporary folder, which is removed on drop.
fn put_aside(name: Option<&str>, bytes: &[u8]) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join(name.unwrap_or("medium")), bytes)?;
    Ok(folder)
}

/// File name of a PNG or JPEG in a folder of frames; `None` for other formats.
fn image_name(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image.png"),
        [0xff, 0xd8, ..] => Some("image.jpg"),
        _ => None,
    }
}

/// Replaces the temporary file's path in an error, since the client does not know it.
fn without_path(error: ComponentError, folder: &Path, name: Option<&str>) -> ComponentError {
    let ComponentError::BadInput(cause) = error else {
        return error;
    };
    let mut text = cause.to_string();
    for path in [folder.join(name.unwrap_or("medium")), folder.to_owned()] {
        text = text.replace(&*path.to_string_lossy(), "it");
    }
    ComponentError::bad_input(text)
}

/// Adds the medium's JSON path to an error.
fn at_fault(error: ComponentError, at: &str) -> ApiError {
    match error {
        ComponentError::BadInput(cause) => ApiError::bad_value(at, format!("{at}: {cause}")),
        error => error.into(),
    }
}

/// Runs blocking work on the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ComponentError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ComponentError::Panicked(error.to_string()))
}
