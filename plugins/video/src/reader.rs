//! The video reader: dispatches to files and folders, and limits concurrency.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use async_trait::async_trait;
use isr_api::{ComponentError, Fingerprint, Frames, VideoReader};
use tokio::sync::Semaphore;

use crate::config::FfmpegConfig;
use crate::error::VideoError;
use crate::{clip, folder};

/// Video reader built by [`FfmpegConfig`].
pub(crate) struct FfmpegReader {
    config: Arc<FfmpegConfig>,
    /// One permit per video read concurrently.
    permits: Semaphore,
    /// Path of ffmpeg, located for the first file, so that folders need no ffmpeg.
    program: OnceLock<PathBuf>,
}

impl FfmpegReader {
    pub(crate) fn new(config: FfmpegConfig) -> Self {
        let permits = config.processes.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        Self { config: Arc::new(config), permits: Semaphore::new(permits), program: OnceLock::new() }
    }

    async fn read_any(&self, path: &Path) -> Result<Frames, VideoError> {
        let data = tokio::fs::metadata(path).await.map_err(|source| VideoError::io(path, source))?;
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.ok();
        if data.is_dir() {
            return self.read_folder(path).await;
        }
        if !data.is_file() {
            return Err(VideoError::NotAFile(path.to_owned()));
        }
        if data.len() == 0 {
            return Err(VideoError::Empty(path.to_owned()));
        }
        // Gives a clearer error than ffmpeg's.
        tokio::fs::File::open(path).await.map_err(|source| VideoError::io(path, source))?;
        clip::read(self.program()?, &self.config, path).await
    }

    async fn read_folder(&self, path: &Path) -> Result<Frames, VideoError> {
        let (config, folder) = (Arc::clone(&self.config), path.to_owned());
        let reading = tokio::task::spawn_blocking(move || folder::read(&config, &folder));
        match tokio::time::timeout(self.config.timeout(), reading).await {
            Ok(Ok(frames)) => frames,
            Ok(Err(_)) => Err(VideoError::damaged(path, "the image decoder panicked")),
            Err(_) => {
                let seconds = self.config.timeout_seconds;
                Err(VideoError::TimedOut { path: path.to_owned(), seconds })
            }
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
        self.config.fingerprint()
    }

    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        Ok(self.read_any(video).await?)
    }
}
