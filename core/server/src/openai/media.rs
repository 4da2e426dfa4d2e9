//! Decoding and caching of videos and images in requests.
//!
//! Media are data URLs in the request or files of allowed folders; nothing is fetched over the network. Decoded media are
//! cached by a content digest: a judge asks about the same frames twice, and the policy reuses the prefix of a known video.
//! Frames and features of all requests under way are within a bound.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use isr_api::{
    ComponentError, Fingerprint, FingerprintBuilder, Frames, Part, VideoEncoder, VideoInput, VideoReader,
    VisualFeatures,
};
use isr_run::VideoMemory;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::openai::allowed::{AllowedFile, AllowedFolders};
use crate::openai::error::ApiError;
use crate::openai::request::ChatPart;

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
    File(AllowedFile),
}

/// Frames per second of images that follow each other in a message, as a folder of frames has by default and Qwen's
/// `qwen-vl-utils` takes for a list of frames.
const IMAGES_PER_SECOND: f64 = 2.0;

/// Longest image file in bytes.
const LONGEST_IMAGE: u64 = 64 << 20;

/// Unit in which the memory of decoded media is counted: a semaphore counts no further than 2^29 on 32 bits.
const UNIT: usize = 1024;

/// Frames and features that a request holds in memory.
#[derive(Default)]
pub(crate) struct Held {
    bytes: usize,
    permits: Vec<OwnedSemaphorePermit>,
}

/// Bytes of a video's frames and features.
fn bytes(video: &VideoInput) -> usize {
    let features = video.features.as_ref().map_or(0, |features| features.bytes.len());
    video.frames.rgb.len() + features
}

/// Reader and cache of media.
pub(crate) struct Media {
    pub(crate) videos: Arc<dyn VideoReader>,
    pub(crate) images: Arc<dyn VideoReader>,
    pub(crate) encoder: Option<Arc<dyn VideoEncoder>>,
    pub(crate) allowed: AllowedFolders,
    known: VideoMemory<Fingerprint>,
    /// One permit a medium that is read or decoded at once.
    decoding: Semaphore,
    /// One permit a [`UNIT`] of decoded media of requests under way.
    memory: Arc<Semaphore>,
    budget: usize,
}

impl Media {
    pub(crate) fn new(
        videos: Arc<dyn VideoReader>,
        images: Arc<dyn VideoReader>,
        encoder: Option<Arc<dyn VideoEncoder>>,
        allowed: AllowedFolders,
        budget: u64,
    ) -> Self {
        let at_once = available_parallelism().map_or(1, usize::from);
        let most = usize::try_from(budget).unwrap_or(usize::MAX);
        Self {
            videos,
            images,
            encoder,
            allowed,
            known: VideoMemory::new(budget),
            decoding: Semaphore::new(at_once),
            memory: Arc::new(Semaphore::new(
                (most / UNIT).saturating_mul(2).clamp(1, Semaphore::MAX_PERMITS),
            )),
            budget: most,
        }
    }

    /// Decodes the parts of a message. Images that follow each other and have one size are the frames of one video.
    pub(crate) async fn parts(&self, parts: Vec<ChatPart>, held: &mut Held) -> Result<Vec<Part>, ApiError> {
        let mut decoded = Vec::with_capacity(parts.len());
        let mut images = Vec::new();
        for part in parts {
            match part {
                ChatPart::Text(text) => {
                    decoded.append(&mut self.joined(std::mem::take(&mut images)).await?);
                    decoded.push(Part::Text(text));
                }
                ChatPart::Medium { medium, url, at } => {
                    let video = self.open(medium, &url, &at).await?;
                    self.hold(&video, held)?;
                    if medium == Medium::Image {
                        images.push(video);
                    } else {
                        decoded.append(&mut self.joined(std::mem::take(&mut images)).await?);
                        decoded.push(Part::Video(video));
                    }
                }
            }
        }
        decoded.append(&mut self.joined(images).await?);
        Ok(decoded)
    }

    /// Counts a video's bytes as those of a request.
    fn hold(&self, video: &VideoInput, held: &mut Held) -> Result<(), ApiError> {
        let bytes = bytes(video);
        held.bytes += bytes;
        if held.bytes > self.budget {
            let message = format!(
                "the images and videos take more than {} MiB once they are decoded; send fewer or smaller ones",
                self.budget >> 20
            );
            return Err(ApiError::bad_value("messages", message));
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).map_err(|_| ApiError::crowded())?;
        let permit = Arc::clone(&self.memory).try_acquire_many_owned(units);
        held.permits.push(permit.map_err(|_| ApiError::crowded())?);
        Ok(())
    }

    /// One video of images of one size; the images alone where their sizes differ.
    async fn joined(&self, images: Vec<VideoInput>) -> Result<Vec<Part>, ApiError> {
        let size = |image: &VideoInput| (image.frames.width, image.frames.height);
        let alike = images.windows(2).all(|pair| size(&pair[0]) == size(&pair[1]));
        if images.len() < 2 || !alike {
            return Ok(images.into_iter().map(Part::Video).collect());
        }
        let mut key = FingerprintBuilder::default();
        key.update(b"frames");
        for image in &images {
            key.update(image.video.as_os_str().as_encoded_bytes()).update(&[0]);
        }
        let key = key.finish();
        let video = self.known.get_or_open(&key, async {
            let times = (0..images.len()).map(|index| index as f64 / IMAGES_PER_SECOND).collect();
            let rgb = images.iter().flat_map(|image| &image.frames.rgb).copied().collect();
            let (width, height) = size(&images[0]);
            let frames = Arc::new(Frames::new(width, height, rgb, times)?);
            let features = self.features(&frames).await?;
            Ok::<_, ApiError>(VideoInput { video: format!("data:{key}").into(), frames, features })
        });
        Ok(vec![Part::Video(video.await?)])
    }

    async fn features(&self, frames: &Arc<Frames>) -> Result<Option<Arc<VisualFeatures>>, ComponentError> {
        Ok(match &self.encoder {
            Some(encoder) => Some(Arc::new(encoder.encode(frames).await?)),
            None => None,
        })
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
            Place::File(file) if medium == Medium::Video => file.path.clone(),
            // An image's name tells its content, by which frames of a video are known.
            _ => PathBuf::from(format!("data:{key}")),
        };
        self.known
            .get_or_open(&key, async {
                let frames = self.read(medium, place).await.map_err(|error| at_fault(error, at))?;
                let frames = Arc::new(frames);
                let features = self.features(&frames).await?;
                Ok(VideoInput { video: name, frames, features })
            })
            .await
    }

    async fn read(&self, medium: Medium, place: Place) -> Result<Frames, ComponentError> {
        // The semaphore is never closed.
        let _permit = self.decoding.acquire().await.ok();
        let (reader, place) = match (medium, place) {
            (Medium::Image, Place::File(file)) => {
                (&self.images, Place::Bytes(blocking(move || image_bytes(&file)).await??))
            }
            (Medium::Image, place) => (&self.images, place),
            (Medium::Video, place) => (&self.videos, place),
        };
        match place {
            Place::File(file) => {
                let descriptor = file.descriptor();
                let outcome = reader.read(&descriptor).await;
                outcome.map_err(|error| with_path(error, &descriptor, &file.path.to_string_lossy()))
            }
            Place::Bytes(bytes) => {
                let name = (medium == Medium::Image).then(|| image_name(&bytes)).flatten();
                let aside =
                    blocking(move || put_aside(name, &bytes)).await?.map_err(ComponentError::failed)?;
                // A lone picture is a folder of frames.
                let path =
                    if name.is_some() { aside.path().to_owned() } else { aside.path().join("medium") };
                let outcome = reader.read(&path).await;
                let outcome = outcome.map_err(|error| {
                    let error = with_path(error, &aside.path().join(name.unwrap_or("medium")), "it");
                    with_path(error, aside.path(), "it")
                });
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
            Place::File(AllowedFile { path, file }) => {
                let data = file.metadata().map_err(ComponentError::bad_input)?;
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

/// The bytes of an image file, which are no more than an image has.
fn image_bytes(file: &AllowedFile) -> Result<Vec<u8>, ComponentError> {
    let mut bytes = Vec::new();
    (&file.file).take(LONGEST_IMAGE + 1).read_to_end(&mut bytes).map_err(ComponentError::bad_input)?;
    match bytes.len() as u64 > LONGEST_IMAGE {
        true => {
            let text = format!("it has more than {} MiB, which no image has", LONGEST_IMAGE >> 20);
            Err(ComponentError::bad_input(text))
        }
        false => Ok(bytes),
    }
}

/// Replaces a path that the client does not know in an error.
fn with_path(error: ComponentError, path: &Path, known: &str) -> ComponentError {
    match error {
        ComponentError::BadInput(cause) => {
            ComponentError::bad_input(cause.to_string().replace(&*path.to_string_lossy(), known))
        }
        error => error,
    }
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
