//! Decoding of video files.
//!
//! Sampling needs the number of frames, which only decoding tells reliably. A small video is decoded and
//! written in one pass, as starting a process costs more than decoding it. A video of more than
//! [`IN_ONE_PASS`] bytes is decoded twice more: once to count frames, without conversion or output, and once
//! to write the sampled frames. This bounds memory. Of a long one, `seek.rs` decodes the sampled frames alone.
//!
//! Errors are not all damage. A file that fails in a strict pass is decoded once more with a log of all packets
//! and frames, which tells whether a frame was lost.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use isr_api::Frames;
use isr_ffmpeg::{Ending, Limits, Outcome, memory_is_short};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::command::{Care, Pass, arguments};
use crate::config::FfmpegConfig;
use crate::error::VideoError;
use crate::log::{Log, MOST_COUNTED};
use crate::part::{Chosen, Part};

/// Maximum size of all frames of a video for decoding in one pass: 16 MiB of RGB, 109 frames of 224 x 224.
const IN_ONE_PASS: usize = 16 << 20;

/// Maximum number of trials, of which only one whose log is torn is repeated.
const TRIALS: usize = 5;

/// Maximum size of the sampled frames of one video: 1 GiB of RGB.
pub(crate) const MOST_BYTES: usize = 1 << 30;

/// Complaints of the decoder about a video that has lost no frame.
#[derive(Debug, PartialEq)]
pub(crate) struct Complaints {
    pub(crate) count: usize,
    pub(crate) first: String,
}

/// Decodes the sampled frames of a video file of `bytes` bytes with the `ffmpeg` at `program`. One process runs at a
/// time, and with each of the permits that are free one more.
pub(crate) async fn read(
    program: &Path,
    config: &FfmpegConfig,
    (part, bytes): (Part<'_>, u64),
    permits: &Semaphore,
) -> Result<(Frames, Option<Complaints>), VideoError> {
    let path = part.path;
    let clip = Clip { program, config, part, path, permits, clock: Clock::start(bytes) };
    if config.allow_damaged {
        return Ok((clip.decode(Care::Lenient).await?.0, None));
    }
    let refused = match clip.decode(Care::Strict).await {
        Ok((frames, false)) => return Ok((frames, None)),
        Ok((_, true)) => None,
        Err(refused @ VideoError::Damaged { .. }) => Some(refused),
        Err(error) => return Err(error),
    };
    let complaints = clip.try_out().await?;
    match refused {
        // Without a complaint there is nothing that would explain the refusal.
        Some(refused) if complaints.is_none() => Err(refused),
        _ => Ok((clip.decode(Care::Lenient).await?.0, complaints)),
    }
}

/// A video file with what decodes it.
pub(crate) struct Clip<'a> {
    program: &'a Path,
    pub(crate) config: &'a FfmpegConfig,
    pub(crate) part: Part<'a>,
    pub(crate) path: &'a Path,
    /// Processes that may run beside the first.
    pub(crate) permits: &'a Semaphore,
    clock: Clock,
}

impl Clip<'_> {
    /// Decodes the sampled frames. The flag says whether an error may have been missed.
    async fn decode(&self, care: Care) -> Result<(Frames, bool), VideoError> {
        // Of a part, the frames before it would have to be kept.
        if self.part.span.is_none_or(|span| span.start <= 0.0) {
            let (whole, log) = self.pass(Pass::All, care, IN_ONE_PASS).await?;
            if let Some(rgb) = whole {
                let chosen = self.choose(&log)?;
                return Ok((self.assemble(&rgb, &log, &chosen.indices, &chosen)?, log.torn));
            }
        }
        // Of a damaged video the packets do not tell which frames can be decoded.
        if let (Care::Strict, Some(frames)) = (care, self.seek().await?) {
            return Ok((frames, false));
        }
        let (_, count) = self.pass(Pass::Count, care, 0).await?;
        let chosen = self.choose(&count)?;
        let distinct = chosen.distinct();
        let (picked, log) = self.pass(Pass::Pick(&distinct), care, MOST_BYTES).await?;
        let rgb = picked.ok_or_else(|| self.too_many_bytes(MOST_BYTES))?;
        if log.ticks.len() != distinct.len() {
            return Err(VideoError::Unstable(self.path.to_owned()));
        }
        let places: Vec<usize> =
            chosen.indices.iter().map(|index| distinct.partition_point(|other| other < index)).collect();
        Ok((self.assemble(&rgb, &log, &places, &chosen)?, count.torn))
    }

    /// Decodes without writing frames, and tells what errors cost: an error if a frame is lost or damaged, else
    /// the complaints, if there are any.
    async fn try_out(&self) -> Result<Option<Complaints>, VideoError> {
        let mut torn = None;
        for _ in 0..TRIALS {
            let (_, log) = self.pass(Pass::Trial, Care::Lenient, 0).await?;
            if let Some(reason) = &log.damage {
                return Err(self.refusal(reason, true));
            }
            if !log.torn {
                let lost = log.lost();
                let complaints = log.complaints();
                return match (lost, &complaints) {
                    (0, _) => Ok(complaints),
                    (_, first) => {
                        let first = first.as_ref().map_or("", |it| &it.first);
                        Err(VideoError::damaged(self.path, format!("{lost} frames are lost; {first}")))
                    }
                };
            }
            torn = log.note;
        }
        Err(VideoError::damaged(self.path, torn.unwrap_or_else(|| "its log is torn".into())))
    }

    /// Runs ffmpeg once. Returns its output, or `None` if it exceeds `limit` bytes, and its log.
    pub(crate) async fn pass(
        &self,
        pass: Pass<'_>,
        care: Care,
        limit: usize,
    ) -> Result<(Option<Vec<u8>>, Log), VideoError> {
        let args = arguments(self.config, self.part, pass, care);
        let limits = Limits { output: limit, ..self.limits() };
        let mut log = Log::default();
        let mut on_line = |line: &str| {
            let before = log.seen();
            log.read(line);
            if log.seen() > before {
                self.clock.tick();
            }
        };
        let outcome = tokio::select! {
            ran = isr_ffmpeg::run(self.program, &args, b"", &limits, &mut on_line) => ran?,
            late = self.clock.expired(self.config, self.path) => return Err(late),
        };
        match self.check(&outcome, &log, care) {
            Err(VideoError::OutOfMemory { .. }) if self.lacks_memory().await => Err(self.shortage(
                "Cannot allocate memory",
                "raise `ulimit -v` or `video.memory_mib`, or lower `video.processes`",
            )),
            checked => checked.map(|()| {
                let complete = outcome.ending != Ending::OutputLimit;
                (complete.then_some(outcome.stdout), log)
            }),
        }
    }

    /// Limits without one on time, which the clock keeps.
    fn limits(&self) -> Limits {
        Limits { wall: Duration::MAX, memory: self.config.memory_mib << 20, output: 0 }
    }

    /// Whether a failed allocation is the machine's fault: less memory than `memory_mib` may be had, or not even
    /// a black frame can be decoded.
    async fn lacks_memory(&self) -> bool {
        let limits = Limits { wall: Duration::from_secs(60), ..self.limits() };
        let words = "-loglevel error -f rawvideo -pixel_format gray -video_size 16x16 -i pipe:0 -f null -";
        let args: Vec<_> = words.split(' ').map(Into::into).collect();
        let control = isr_ffmpeg::run(self.program, &args, &[0; 256], &limits, &mut |_| ()).await;
        let works = control.is_ok_and(|it| matches!(it.ending, Ending::Exited(status) if status.success()));
        !works || memory_is_short(limits.memory)
    }

    /// Checks log and exit status of a pass, the most specific error first.
    fn check(&self, outcome: &Outcome, log: &Log, care: Care) -> Result<(), VideoError> {
        let path = || self.path.to_owned();
        let Ending::Exited(status) = outcome.ending else {
            // Killed for exceeding the output limit, which may have caused errors in the log.
            return Ok(());
        };
        self.check_machine(status, log)?;
        if log.too_large {
            return Err(VideoError::TooManyPixels { path: path(), limit: self.config.max_pixels });
        }
        if log.changes {
            return Err(VideoError::Changes(path()));
        }
        if log.endless {
            return Err(VideoError::TooManyFrames { path: path(), limit: MOST_COUNTED });
        }
        // The dynamic linker reports 127 if a library is missing.
        if let Some(126 | 127) = status.code() {
            return Err(VideoError::Broken(
                log.foreign.clone().unwrap_or_else(|| "it cannot be started".into()),
            ));
        }
        let damage = match care {
            _ if !status.success() => log.damage.as_ref().or(log.error.as_ref()),
            Care::Strict => log.error.as_ref(),
            Care::Lenient => None,
        };
        match damage {
            Some(reason) => Err(self.refusal(reason, log.opened)),
            None if !status.success() => {
                Err(VideoError::Crashed { path: path(), status: status.to_string() })
            }
            None => Ok(()),
        }
    }

    /// Tells what the machine, or somebody, did to ffmpeg from what the file did.
    fn check_machine(&self, status: ExitStatus, log: &Log) -> Result<(), VideoError> {
        const AGAIN: &str = "continue the run when nothing ends its processes";
        if status.success() {
            return Ok(());
        }
        if let Some((reason, remedy)) = &log.shortage {
            return Err(self.shortage(reason, remedy));
        }
        #[cfg(unix)]
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(9) => {
                let remedy = "the machine or the job may have run out of memory: lower `video.processes`, or \
                              give it more";
                return Err(self.shortage("ffmpeg was killed", remedy));
            }
            Some(1 | 2 | 15 | 24) => return Err(self.shortage(&format!("ffmpeg got {status}"), AGAIN)),
            _ => {}
        }
        if log.interrupted { Err(self.shortage("ffmpeg was told to end", AGAIN)) } else { Ok(()) }
    }

    fn shortage(&self, reason: &str, remedy: &str) -> VideoError {
        let path = self.path.to_owned();
        VideoError::Shortage { path, reason: reason.to_owned(), remedy: remedy.to_owned() }
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

    /// The sampled frames, from the log of a pass.
    pub(crate) fn choose(&self, log: &Log) -> Result<Chosen, VideoError> {
        let chosen = self.part.choose(self.config, &log.timestamps())?;
        let (width, height) = log.size.unwrap_or_default();
        let bytes = chosen.indices.len().saturating_mul(width as usize * height as usize * 3);
        // The counting pass reports unscaled sizes, so frames that will be scaled down are not checked here.
        if self.config.max_short_side.is_none() && bytes > MOST_BYTES {
            return Err(self.too_many_bytes(bytes));
        }
        Ok(chosen)
    }

    /// Collects the chosen frames by their positions in `rgb`.
    pub(crate) fn assemble(
        &self,
        rgb: &[u8],
        log: &Log,
        places: &[usize],
        chosen: &Chosen,
    ) -> Result<Frames, VideoError> {
        let (width, height) = log.size.unwrap_or_default();
        let size = width as usize * height as usize * 3;
        if size == 0 || rgb.len() != log.ticks.len() * size {
            return Err(VideoError::damaged(self.path, "the pixels do not match the frame count"));
        }
        let pixels: Vec<&[u8]> =
            places.iter().filter_map(|place| rgb.chunks_exact(size).nth(*place)).collect();
        let (timestamps, duration) = (chosen.timestamps(), chosen.duration(self.config, log.frame_rate));
        Ok(Frames { width, height, rgb: pixels.concat(), timestamps, duration })
    }

    fn too_many_bytes(&self, bytes: usize) -> VideoError {
        VideoError::TooManyBytes { path: self.path.to_owned(), bytes, limit: MOST_BYTES }
    }
}
