//! From pixels to `.mp4`, by ffmpeg in processes of its own.
//!
//! Starting ffmpeg takes longer than encoding a clip. So a process takes a batch: the clips' frames come
//! through its standard input one after the other, a filter graph deals them out, and each clip has an
//! encoder and a file of its own. A clip's bytes therefore do not depend on its batch.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use crate::clip::Clip;
use crate::config::WorldConfig;
use crate::error::WorldError;
use crate::raster;

/// Clips that one ffmpeg process encodes.
pub(crate) const BATCH: usize = 16;

/// Renders clips into H.264 files: `yuv420p`, CRF 12, one thread, no version or date in the file, so
/// that the same ffmpeg writes the same bytes. Without macroblock trees: x264's AVX-512 code for them
/// (build 164) reads memory that nobody wrote, and a clip's bytes then depend on what lay there.
pub(crate) struct Encoder<'a> {
    /// The ffmpeg to run.
    pub(crate) program: PathBuf,
    /// The world's settings.
    pub(crate) config: &'a WorldConfig,
}

impl Encoder<'_> {
    /// Renders `clips` into `folder`, one `NAME.mp4` each.
    pub(crate) fn encode(&self, clips: &[Clip], folder: &Path) -> Result<(), WorldError> {
        let mut child =
            self.start(clips, folder).map_err(|error| self.failed(clips, &error.to_string()))?;
        let (stdin, mut stderr) = (child.stdin.take(), child.stderr.take());
        let mut said = Vec::new();
        let fed = thread::scope(|scope| {
            // Read beside the writing, or a talkative ffmpeg would wait for us while we wait for it.
            scope.spawn(|| stderr.as_mut().map(|pipe| pipe.read_to_end(&mut said)));
            stdin.map_or(Ok(()), |pipe| self.feed(clips, pipe))
        });
        self.finish(child, clips, fed, &said)
    }

    fn start(&self, clips: &[Clip], folder: &Path) -> io::Result<Child> {
        let size = format!("{0}x{0}", self.config.size);
        let mut command = Command::new(&self.program);
        command
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-filter_complex_threads", "1"])
            .args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", &size])
            .args(["-r", &self.config.fps.to_string(), "-i", "pipe:0"])
            .args(["-filter_complex", &deal(clips.len(), self.config.frames)]);
        for (index, clip) in clips.iter().enumerate() {
            command
                .args(["-map", &format!("[out{index}]"), "-an", "-threads", "1"])
                // FFmpeg 7 forgets the rate behind the filters that deal frames out.
                .args(["-r", &self.config.fps.to_string()])
                .args(["-c:v", "libx264", "-preset", "veryfast", "-crf", "12", "-pix_fmt", "yuv420p"])
                .args(["-x264-params", "mbtree=0"])
                .args(["-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"])
                .arg(folder.join(format!("{}.mp4", clip.name())));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    }

    fn feed(&self, clips: &[Clip], mut pipe: ChildStdin) -> io::Result<()> {
        for clip in clips {
            let rgb = raster::render(self.config, clip);
            pipe.write_all(&raster::to_yuv420(&rgb, self.config.size as usize))?;
        }
        Ok(())
    }

    fn finish(
        &self,
        mut child: Child,
        clips: &[Clip],
        fed: io::Result<()>,
        said: &[u8],
    ) -> Result<(), WorldError> {
        let status = child.wait().map_err(|error| self.failed(clips, &error.to_string()))?;
        let said = String::from_utf8_lossy(said);
        match fed {
            _ if !status.success() => Err(self.failed(clips, &format!("{status}: {}", tail(&said)))),
            Err(error) => Err(self.failed(clips, &error.to_string())),
            Ok(()) => Ok(()),
        }
    }

    fn failed(&self, clips: &[Clip], reason: &str) -> WorldError {
        let name = |clip: Option<&Clip>| clip.map(Clip::name).unwrap_or_default();
        WorldError::Encode {
            program: self.program.clone(),
            first: name(clips.first()),
            last: name(clips.last()),
            reason: reason.to_owned(),
        }
    }
}

/// The filter graph that gives each output its share of the frames.
fn deal(clips: usize, frames: u32) -> String {
    let ends: String = (0..clips).map(|index| format!("[in{index}]")).collect();
    let mut graph = format!("[0:v]split={clips}{ends}");
    for index in 0..clips {
        let start = index as u64 * u64::from(frames);
        let end = start + u64::from(frames);
        graph += &format!(
            ";[in{index}]trim=start_frame={start}:end_frame={end},setpts=PTS-STARTPTS[out{index}]"
        );
    }
    graph
}

/// The last few lines: ffmpeg's reason comes last.
fn tail(said: &str) -> String {
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::clip::Split;

    fn clips(config: &WorldConfig, range: std::ops::Range<u32>) -> Vec<Clip> {
        range.map(|index| Clip::generate(config, Split::Training, index)).collect()
    }

    #[test]
    fn a_clips_bytes_do_not_depend_on_its_batch() {
        let config = WorldConfig::default();
        let encoder = Encoder { program: isr_ffmpeg::locate().unwrap(), config: &config };
        let folder = tempfile::tempdir().unwrap();
        let (batch, alone) = (folder.path().join("batch"), folder.path().join("alone"));
        fs::create_dir_all(&batch).unwrap();
        fs::create_dir_all(&alone).unwrap();
        encoder.encode(&clips(&config, 0..5), &batch).unwrap();
        encoder.encode(&clips(&config, 3..4), &alone).unwrap();
        let read = |folder: &Path| fs::read(folder.join("train-000003.mp4")).unwrap();
        assert_eq!(read(&batch), read(&alone));
        assert!(fs::read(batch.join("train-000002.mp4")).unwrap() != read(&batch));
        assert_eq!(&read(&batch)[4..8], b"ftyp");
    }

    /// glibc fills what it hands out with `MALLOC_PERTURB_`'s byte.
    #[cfg(unix)]
    #[test]
    fn a_clips_bytes_do_not_depend_on_what_lay_in_memory() {
        use std::os::unix::fs::PermissionsExt;

        let config = WorldConfig::default();
        let folder = tempfile::tempdir().unwrap();
        let program = isr_ffmpeg::locate().unwrap();
        let with = |byte: u8| {
            let script = folder.path().join(format!("ffmpeg-{byte}"));
            let text = format!("#!/bin/sh\nMALLOC_PERTURB_={byte} exec '{}' \"$@\"\n", program.display());
            fs::write(&script, text).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            let clips = folder.path().join(format!("clips-{byte}"));
            fs::create_dir(&clips).unwrap();
            Encoder { program: script, config: &config }
                .encode(&self::clips(&config, 12..13), &clips)
                .unwrap();
            fs::read(clips.join("train-000012.mp4")).unwrap()
        };
        let first = with(1);
        assert!([90, 165, 254].into_iter().all(|byte| with(byte) == first));
    }

    #[test]
    fn a_decoded_clip_has_all_frames_and_looks_like_what_was_painted() {
        let config = WorldConfig::default();
        let encoder = Encoder { program: isr_ffmpeg::locate().unwrap(), config: &config };
        let folder = tempfile::tempdir().unwrap();
        let clips = clips(&config, 0..3);
        encoder.encode(&clips, folder.path()).unwrap();
        for clip in &clips {
            let file = folder.path().join(format!("{}.mp4", clip.name()));
            let mut decoder = Command::new(&encoder.program);
            decoder.args(["-loglevel", "error", "-i"]).arg(file);
            let decoded =
                decoder.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]).output().unwrap().stdout;
            let painted = raster::render(&config, clip);
            assert_eq!(decoded.len(), painted.len(), "{}", clip.name());
            let off: u64 = decoded.iter().zip(&painted).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = off as f64 / painted.len() as f64;
            assert!(mean < 4.0, "{}: {mean} of 255", clip.name());
        }
    }

    #[test]
    fn what_ffmpeg_says_is_passed_on() {
        let config = WorldConfig::default();
        let encoder = Encoder { program: isr_ffmpeg::locate().unwrap(), config: &config };
        let error = encoder.encode(&clips(&config, 0..2), Path::new("/dev/null/nowhere")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("could not encode clips train-000000 to train-000001"), "{message}");
        assert!(message.contains("/dev/null/nowhere"), "{message}");
    }

    #[test]
    fn a_program_that_is_gone_is_named() {
        let config = WorldConfig::default();
        let encoder = Encoder { program: "/no/such/ffmpeg".into(), config: &config };
        let message = encoder.encode(&clips(&config, 0..1), Path::new(".")).unwrap_err().to_string();
        assert!(message.starts_with("/no/such/ffmpeg could not encode"), "{message}");
    }
}
