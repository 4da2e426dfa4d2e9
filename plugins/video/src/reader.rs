//! The video reader: dispatches to files and folders, and limits concurrency.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::available_parallelism;

use async_trait::async_trait;
use isr_api::{ComponentError, Fingerprint, Frames, VideoReader};
use tokio::sync::Semaphore;

use crate::clip::Complaints;
use crate::clock::Clock;
use crate::config::FfmpegConfig;
use crate::error::VideoError;
use crate::part::Part;
use crate::{clip, folder, picture};

/// Video reader built by [`FfmpegConfig`].
pub(crate) struct FfmpegReader {
    config: Arc<FfmpegConfig>,
    /// One permit per video read concurrently, or process that decodes a part of one.
    permits: Semaphore,
    /// Path of ffmpeg, located for the first file, so that folders need no ffmpeg.
    program: OnceLock<PathBuf>,
    fingerprint: OnceLock<Fingerprint>,
    /// Videos whose decoder complained, which are warned of once.
    complained: Mutex<HashSet<PathBuf>>,
}

impl FfmpegReader {
    pub(crate) fn new(config: FfmpegConfig) -> Self {
        let permits = config.processes.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        Self {
            config: Arc::new(config),
            permits: Semaphore::new(permits),
            program: OnceLock::new(),
            fingerprint: OnceLock::new(),
            complained: Mutex::default(),
        }
    }

    async fn read_any(&self, video: &Path, draw: Option<u64>) -> Result<Frames, VideoError> {
        let part = Part::new(video, draw)?;
        let path = part.path;
        let data = tokio::fs::metadata(path).await.map_err(|source| VideoError::io(path, source))?;
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.ok();
        if data.is_dir() {
            return self.blocking(part, folder::read).await;
        }
        if !data.is_file() {
            return Err(VideoError::NotAFile(path.to_owned()));
        }
        if data.len() == 0 {
            return Err(VideoError::Empty(path.to_owned()));
        }
        // Gives a clearer error than ffmpeg's.
        tokio::fs::File::open(path).await.map_err(|source| VideoError::io(path, source))?;
        // With a minimum of one frame a picture is a video like others, and is sampled by the rule.
        if self.config.min_frames > 1 && picture::is_picture(path)? {
            if let Some(span) = part.span {
                let (video, reason) = (span.of(path), "a picture has no parts".to_owned());
                return Err(VideoError::Span { video, reason });
            }
            return self.blocking(part, |config, part, _| picture::read(config, part.path)).await;
        }
        let (frames, complaints) =
            clip::read(self.program()?, &self.config, (part, data.len()), &self.permits).await?;
        if let Some(complaints) = complaints {
            self.warn(path, &complaints);
        }
        Ok(frames)
    }

    /// Warns of a video once, with the number of such videos so far.
    fn warn(&self, path: &Path, complaints: &Complaints) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.insert(path.to_owned()) {
            let Complaints { count, first } = complaints;
            tracing::warn!(
                "the decoder complains of {} {count} time{} ({first}); no frame is lost, so it is read ({} such \
                 video{} so far)",
                path.display(),
                if *count == 1 { "" } else { "s" },
                complained.len(),
                if complained.len() == 1 { "" } else { "s" },
            );
        }
    }

    /// Reads images on a thread for it, within the time limit.
    async fn blocking(
        &self,
        Part { path, span, draw }: Part<'_>,
        read: fn(&FfmpegConfig, Part<'_>, &Clock) -> Result<Frames, VideoError>,
    ) -> Result<Frames, VideoError> {
        let clock = Arc::new(Clock::start(0));
        let (config, from, counting) = (Arc::clone(&self.config), path.to_owned(), Arc::clone(&clock));
        let reading =
            tokio::task::spawn_blocking(move || read(&config, Part { path: &from, span, draw }, &counting));
        tokio::select! {
            read = reading => match read {
                Ok(frames) => frames,
                Err(_) => Err(VideoError::damaged(path, "the image decoder panicked")),
            },
            late = clock.expired(&self.config, path) => Err(late),
        }
    }

    fn program(&self) -> Result<&Path, VideoError> {
        if let Some(program) = self.program.get() {
            return Ok(program);
        }
        let found = isr_ffmpeg::locate()?;
        tracing::debug!(program = %found.display(), "decoding video with ffmpeg");
        Ok(self.program.get_or_init(|| found))
    }
}

#[async_trait]
impl VideoReader for FfmpegReader {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
            .get_or_init(|| {
                // Other versions may decode to other pixels. Folders of frames need no ffmpeg.
                let version = self.program().map_or_else(|_| String::new(), isr_ffmpeg::version);
                Fingerprint::of_json(&(self.config.fingerprint(), version))
            })
            .clone()
    }

    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        Ok(self.read_any(video, None).await?)
    }

    fn draws_frames(&self) -> bool {
        self.config.sampling.is_drawn()
    }

    async fn draw(&self, video: &Path, seed: u64) -> Result<Frames, ComponentError> {
        Ok(self.read_any(video, Some(seed)).await?)
    }
}
