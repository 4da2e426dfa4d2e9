//! The frames that a sampling rule chooses of a video, or of a part of it.

use std::path::Path;

use isr_api::VideoSpan;

use crate::config::FfmpegConfig;
use crate::error::VideoError;

/// Seconds by which a span may end behind its video: annotators round, and containers state other lengths than their frames
/// have.
const SLACK: f64 = 1.0;

/// A video to be read: path of its file or folder, the part of it, and the seed by which frames are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) path: &'a Path,
    pub(crate) span: Option<VideoSpan>,
    pub(crate) draw: Option<u64>,
}

/// Frames that a rule chose.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Indices of the chosen frames in the video, non-decreasing.
    pub(crate) indices: Vec<usize>,
    /// Index of the part's first frame.
    first: usize,
    /// Timestamps of the part's frames in seconds from its first frame.
    times: Vec<f64>,
}

impl<'a> Part<'a> {
    /// Splits the path of a video, and checks its span.
    pub(crate) fn new(video: &'a Path, draw: Option<u64>) -> Result<Self, VideoError> {
        let (path, span) = VideoSpan::split(video);
        match span.map_or(Ok(()), VideoSpan::validate) {
            Ok(()) => Ok(Self { path, span, draw }),
            Err(reason) => Err(VideoError::Span { video: video.to_owned(), reason }),
        }
    }

    /// Seconds from the video's first frame after which no frame is needed; `None` where all are.
    pub(crate) fn horizon(self, config: &FfmpegConfig) -> Option<f64> {
        let start = self.span.map_or(0.0, |span| span.start);
        let of_rule = config.sampling.horizon().map(|seconds| start + seconds);
        let of_span = self.span.and_then(|span| span.end);
        of_rule.into_iter().chain(of_span).reduce(f64::min)
    }

    /// Chooses frames by the rule from timestamps in seconds from the video's first frame, non-decreasing, which may
    /// end at the horizon.
    pub(crate) fn choose(self, config: &FfmpegConfig, times: &[f64]) -> Result<Chosen, VideoError> {
        let (first, times) = match self.span {
            None => (0, times.to_vec()),
            Some(span) => self.within(span, times)?,
        };
        config.check_count(self.path, times.len())?;
        let chosen = config.sampling.choose(&times, self.draw);
        let mut indices = chosen.ok_or_else(|| VideoError::NoTimestamps(self.path.to_owned()))?;
        indices.iter_mut().for_each(|index| *index += first);
        Ok(Chosen { indices, first, times })
    }

    /// First frame of a span, and timestamps of its frames from there.
    fn within(self, span: VideoSpan, times: &[f64]) -> Result<(usize, Vec<f64>), VideoError> {
        let refused = |reason: String| VideoError::Span { video: span.of(self.path), reason };
        let last = times.last().copied().unwrap_or_default();
        if times.len() > 1 && last <= 0.0 {
            return Err(VideoError::NoTimestamps(self.path.to_owned()));
        }
        let first = times.partition_point(|time| *time < span.start);
        let behind = span.end.map_or(times.len(), |end| times.partition_point(|time| *time < end));
        // A video ends one interval behind its last frame.
        let length = last + last / times.len().saturating_sub(1).max(1) as f64;
        if first >= behind {
            return Err(refused(format!("no frame is in it: the video ends at {length:.2} s")));
        }
        if let Some(end) = span.end.filter(|end| behind == times.len() && *end > length + SLACK) {
            return Err(refused(format!("it ends at {end} s, and the video at {length:.2} s")));
        }
        let start = times[first];
        Ok((first, times[first..behind].iter().map(|time| time - start).collect()))
    }
}

impl Chosen {
    /// The chosen frames without repetition.
    pub(crate) fn distinct(&self) -> Vec<usize> {
        let mut distinct = self.indices.clone();
        distinct.dedup();
        distinct
    }

    /// Timestamps of the chosen frames in seconds from the part's first frame.
    pub(crate) fn timestamps(&self) -> Vec<f64> {
        self.indices.iter().filter_map(|index| self.times.get(index - self.first).copied()).collect()
    }

    /// Number of the part's frames.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Duration in seconds of what the rule sampled from; see [`FrameSampling::duration`](crate::FrameSampling).
    pub(crate) fn duration(&self, config: &FfmpegConfig, stated: Option<f64>) -> f64 {
        config.sampling.duration(&self.times, stated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameSampling;

    fn config(sampling: FrameSampling) -> FfmpegConfig {
        FfmpegConfig { sampling, ..FfmpegConfig::default() }
    }

    fn times() -> Vec<f64> {
        (0..100).map(|frame| f64::from(frame) / 10.0).collect()
    }

    fn choose(fragment: &str, config: &FfmpegConfig) -> Result<Chosen, String> {
        let video = format!("a.mp4{fragment}");
        let part = Part::new(Path::new(&video), None).map_err(|error| error.to_string())?;
        part.choose(config, &times()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_span_is_sampled_like_a_video_of_its_own() {
        let uniform = config(FrameSampling::Uniform { frames: 3 });
        let chosen = choose("#t=2,4", &uniform).unwrap();
        assert_eq!(chosen.indices, [20, 29, 39]);
        assert_eq!(chosen.timestamps()[0], 0.0);
        assert!(
            (chosen.timestamps()[2] - 1.9).abs() < 1e-9
                && (chosen.duration(&uniform, None) - 2.0).abs() < 1e-9
        );
        assert_eq!(choose("#t=9.5", &uniform).unwrap().indices, [95, 97, 99]);
        assert_eq!(choose("#t=0,10.9", &uniform).unwrap().indices, [0, 49, 99], "a rounded end");
        let first = config(FrameSampling::FirstSeconds { seconds: 1.0, frames: 2 });
        assert_eq!(choose("#t=3", &first).unwrap().indices, [30, 39]);
        let part = |fragment: &str| Part::new(Path::new(fragment), None).unwrap().horizon(&first);
        assert_eq!((part("a#t=3"), part("a#t=3,3.5"), part("a")), (Some(4.0), Some(3.5), Some(1.0)));
    }

    #[test]
    fn spans_that_are_not_in_the_video_are_refused() {
        let uniform = config(FrameSampling::Uniform { frames: 3 });
        let reason = |fragment: &str| choose(fragment, &uniform).unwrap_err();
        assert!(
            reason("#t=4,2").contains("a.mp4#t=4,2 is no part of its video: its end, 2 s"),
            "{}",
            reason("#t=4,2")
        );
        assert!(reason("#t=-1,2").contains("before the start"));
        assert!(reason("#t=12").contains("the video ends at 10.00 s"));
        assert!(reason("#t=3,12").contains("it ends at 12 s, and the video at 10.00 s"));
        assert!(reason("#t=3.01,3.02").contains("no frame"));
        assert!(reason("#t=3,3.1").contains("has 1 frame"));
    }
}
