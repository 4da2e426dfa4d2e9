//! The runtime object: tells files from folders, and bounds how many are read at once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use async_trait::async_trait;
use isr_api::{ComponentError, Fingerprint, Frames, VideoReader};
use tokio::sync::Semaphore;

use crate::config::FfmpegConfig;
use crate::error::VideoError;
use crate::{clip, folder};

/// Reads videos as its config says.
pub(crate) struct FfmpegReader {
    config: Arc<FfmpegConfig>,
    /// One permit for each video that may be read at once.
    turns: Semaphore,
    /// Found when the first file needs it, so that folders are read without any ffmpeg.
    program: OnceLock<PathBuf>,
}

impl FfmpegReader {
    pub(crate) fn new(config: FfmpegConfig) -> Self {
        let turns = config.processes.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        Self { config: Arc::new(config), turns: Semaphore::new(turns), program: OnceLock::new() }
    }

    async fn read_any(&self, path: &Path) -> Result<Frames, VideoError> {
        let data = tokio::fs::metadata(path).await.map_err(|source| VideoError::io(path, source))?;
        // Never closed, so there is always a permit in the end.
        let _turn = self.turns.acquire().await.ok();
        if data.is_dir() {
            return self.read_folder(path).await;
        }
        if !data.is_file() {
            return Err(VideoError::NotAFile(path.to_owned()));
        }
        if data.len() == 0 {
            return Err(VideoError::Empty(path.to_owned()));
        }
        // ffmpeg would say so too, less clearly.
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
