//! Wall-clock limit of a video, which grows with its file and with the frames that have been decoded.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::config::FfmpegConfig;
use crate::error::VideoError;

/// Time since the start of reading, and the number of frames so far.
pub(crate) struct Clock {
    start: Instant,
    bytes: u64,
    frames: AtomicUsize,
}

impl Clock {
    /// Starts the time of a file of so many bytes, or of a folder with 0.
    pub(crate) fn start(bytes: u64) -> Self {
        Self { start: Instant::now(), bytes, frames: AtomicUsize::new(0) }
    }

    /// Counts a frame.
    pub(crate) fn tick(&self) {
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for the end of the limit, which frames that come meanwhile put off; then returns the error.
    pub(crate) async fn expired(&self, config: &FfmpegConfig, path: &Path) -> VideoError {
        loop {
            let frames = self.frames.load(Ordering::Relaxed);
            let limit = config.timeout(frames, self.bytes);
            let left = limit.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return VideoError::TimedOut {
                    path: path.to_owned(),
                    limit: limit.as_secs_f64(),
                    frames,
                    seconds: config.timeout_seconds,
                    per_frame: config.timeout_per_frame,
                };
            }
            tokio::time::sleep(left).await;
        }
    }
}
