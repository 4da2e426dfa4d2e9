//! Decoding of video files.
//!
//! Sampling needs the number of frames, which only decoding tells reliably. A small video is decoded and
//! written in one pass, as starting a process costs more than decoding it. A video of more than
//! [`IN_ONE_PASS`] bytes is decoded twice more: once to count frames, without conversion or output, and once
//! to write the sampled frames. This bounds memory.

use std::path::Path;
use std::time::Instant;

use isr_api::Frames;
use isr_ffmpeg::{Ending, FfmpegError, Limits, Outcome};

use crate::command::{Pass, arguments};
use crate::config::FfmpegConfig;
use crate::error::VideoError;
use crate::log::{Log, MOST_COUNTED};

/// Maximum size of all frames of a video for decoding in one pass: 16 MiB of RGB, 109 frames of 224 x 224.
const IN_ONE_PASS: usize = 16 << 20;

/// Maximum size of the sampled frames of one video: 1 GiB of RGB.
pub(crate) const MOST_BYTES: usize = 1 << 30;

/// Decodes the sampled frames of a video file with the `ffmpeg` at `program`.
pub(crate) async fn read(program: &Path, config: &FfmpegConfig, path: &Path) -> Result<Frames, VideoError> {
    let clip = Clip { program, config, path, deadline: Instant::now() + config.timeout() };
    let (whole, log) = clip.pass(Pass::All, IN_ONE_PASS).await?;
    if let Some(rgb) = whole {
        let (chosen, times) = clip.choose(&log)?;
        return clip.assemble(&rgb, &log, &chosen, &chosen, &times);
    }
    let (_, count) = clip.pass(Pass::Count, 0).await?;
    let (chosen, times) = clip.choose(&count)?;
    let mut distinct = chosen.clone();
    distinct.dedup();
    let (picked, log) = clip.pass(Pass::Pick(&distinct), MOST_BYTES).await?;
    let rgb = picked.ok_or_else(|| clip.too_many_bytes(MOST_BYTES))?;
    if log.ticks.len() != distinct.len() {
        return Err(VideoError::Unstable(path.to_owned()));
    }
    let places: Vec<usize> =
        chosen.iter().map(|index| distinct.partition_point(|other| other < index)).collect();
    clip.assemble(&rgb, &log, &places, &chosen, &times)
}

struct Clip<'a> {
    program: &'a Path,
    config: &'a FfmpegConfig,
    path: &'a Path,
    deadline: Instant,
}

impl Clip<'_> {
    /// Runs ffmpeg once. Returns its output, or `None` if it exceeds `limit` bytes, and its log.
    async fn pass(&self, pass: Pass<'_>, limit: usize) -> Result<(Option<Vec<u8>>, Log), VideoError> {
        let wall = self.deadline.saturating_duration_since(Instant::now());
        let limits = Limits { wall, memory: self.config.memory_mib << 20, output: limit };
        let args = arguments(self.config, self.path, pass);
        let mut log = Log::default();
        let ran = isr_ffmpeg::run(self.program, &args, b"", &limits, &mut |line| log.read(line)).await;
        let outcome = ran.map_err(|error| match error {
            FfmpegError::TimedOut(_) => self.timed_out(),
            error => error.into(),
        })?;
        self.check(&outcome, &log)?;
        let complete = outcome.ending != Ending::OutputLimit;
        Ok((complete.then_some(outcome.stdout), log))
    }

    /// Checks log and exit status of a pass, the most specific error first.
    fn check(&self, outcome: &Outcome, log: &Log) -> Result<(), VideoError> {
        let path = || self.path.to_owned();
        let Ending::Exited(status) = outcome.ending else {
            // Killed for exceeding the output limit, which may have caused errors in the log.
            return Ok(());
        };
        if log.too_large {
            return Err(VideoError::TooManyPixels { path: path(), limit: self.config.max_pixels });
        }
        if log.changes {
            return Err(VideoError::Changes(path()));
        }
        if log.endless {
            return Err(VideoError::TooManyFrames { path: path(), limit: MOST_COUNTED });
        }
        // Shell and dynamic linker report 126 and 127 if the program cannot be started.
        if let Some(126 | 127) = status.code() {
            return Err(VideoError::Broken(
                log.foreign.clone().unwrap_or_else(|| "it cannot be started".into()),
            ));
        }
        match &log.error {
            Some(reason) if !(status.success() && self.config.allow_damaged) => {
                Err(self.refusal(reason, log.opened))
            }
            None if !status.success() => {
                Err(VideoError::Crashed { path: path(), status: status.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// The error for the first error line of ffmpeg's log.
    fn refusal(&self, reason: &str, opened: bool) -> VideoError {
        let path = self.path.to_owned();
        let says = |part: &str| reason.contains(part);
        if ["Unrecognized option", "No such filter", "Option not found"].into_iter().any(says) {
            return VideoError::Broken(format!("{reason}; version 5.1 or later is needed"));
        }
        if says("matches no streams") {
            return VideoError::NoVideoStream(path);
        }
        if says("Cannot allocate memory") {
            return VideoError::OutOfMemory { path, limit: self.config.memory_mib };
        }
        let reason = match reason.split_once(": Format not on whitelist") {
            Some((format, _)) => format!("{format} is not a container that is opened"),
            None => reason.replace(&format!("file:{}: ", path.display()), ""),
        };
        if !opened { VideoError::NotAVideo { path, reason } } else { VideoError::Damaged { path, reason } }
    }

    /// Indices of the sampled frames, and the timestamps of all frames, from the log of a pass.
    fn choose(&self, log: &Log) -> Result<(Vec<usize>, Vec<f64>), VideoError> {
        let times = log.timestamps();
        self.config.check_count(self.path, times.len())?;
        let chosen = self.config.sampling.choose(&times);
        let chosen = chosen.ok_or_else(|| VideoError::NoTimestamps(self.path.to_owned()))?;
        let (width, height) = log.size.unwrap_or_default();
        let bytes = chosen.len().saturating_mul(width as usize * height as usize * 3);
        // The counting pass reports unscaled sizes, so frames that will be scaled down are not checked here.
        if self.config.max_short_side.is_none() && bytes > MOST_BYTES {
            return Err(self.too_many_bytes(bytes));
        }
        Ok((chosen, times))
    }

    /// Collects frames by their positions in `rgb`, and timestamps by their indices in the video.
    fn assemble(
        &self,
        rgb: &[u8],
        log: &Log,
        places: &[usize],
        indices: &[usize],
        times: &[f64],
    ) -> Result<Frames, VideoError> {
        let (width, height) = log.size.unwrap_or_default();
        let size = width as usize * height as usize * 3;
        if size == 0 || rgb.len() != log.ticks.len() * size {
            return Err(VideoError::damaged(self.path, "the pixels do not match the frame count"));
        }
        let chosen: Vec<&[u8]> =
            places.iter().filter_map(|place| rgb.chunks_exact(size).nth(*place)).collect();
        let timestamps: Vec<f64> = indices.iter().filter_map(|index| times.get(*index).copied()).collect();
        let duration = self.config.sampling.duration(times, log.frame_rate);
        Ok(Frames { width, height, rgb: chosen.concat(), timestamps, duration })
    }

    fn timed_out(&self) -> VideoError {
        VideoError::TimedOut { path: self.path.to_owned(), seconds: self.config.timeout_seconds }
    }

    fn too_many_bytes(&self, bytes: usize) -> VideoError {
        VideoError::TooManyBytes { path: self.path.to_owned(), bytes, limit: MOST_BYTES }
    }
}
