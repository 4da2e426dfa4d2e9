//! Frame sampling: which frames of a video are used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::segments::{self, Offsets};

/// Maximum number of frames of any rule.
pub(crate) const MOST_FRAMES: usize = 1024;

/// Tolerance of timestamps in seconds: Matroska rounds to 1 ms.
const ROUNDING: f64 = 1e-3;

/// Tolerance of the frame count of the first seconds, in frames, for the same reason.
const SLACK: f64 = 0.05;

/// Frame-sampling rule.
///
/// Frames are indexed in decoding order from 0 to `n - 1`. Even spacing is `numpy.linspace(0, n - 1, frames)`
/// truncated to integers, bit for bit as in LLaVA-Hound (`languagebind/video/processing_video.py`). It
/// includes the first and the last frame, and repeats frames of a video with fewer than requested: 8 of 3
/// frames are 0 0 0 0 1 1 1 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum FrameSampling {
    /// Evenly spaced over the whole video.
    Uniform {
        /// Number of frames, 1 to 1024.
        #[serde(default = "eight")]
        frames: usize,
    },
    /// Evenly spaced over the first `floor(fps * seconds)` frames of a video file, like LLaVA-Hound's `decord`
    /// reader. A folder of frames is sampled over all its files, like LLaVA-Hound's `frames` reader. Decoding
    /// stops after these seconds, so a long video costs no more than a short one.
    FirstSeconds {
        /// Duration in seconds from the first frame, more than 0.
        #[serde(default = "ten")]
        seconds: f64,
        /// Number of frames, 1 to 1024.
        #[serde(default = "eight")]
        frames: usize,
    },
    /// The frames shown at 0, `1/fps`, `2/fps`, ... seconds, without repetition; if these are more than
    /// `max_frames`, `max_frames` evenly spaced over the whole video.
    Fps {
        /// Sampling rate in frames per second, more than 0.
        #[serde(default = "one")]
        fps: f64,
        /// Maximum number of frames, 1 to 1024.
        #[serde(default = "sixty_four")]
        max_frames: usize,
    },
    /// One frame of each of several segments of equal length, drawn anew in each iteration of the loop: the segment
    /// sampling of temporal segment networks (Wang et al. 2016, arXiv 1608.00859), as in mmaction2's
    /// `UniformSampleFrames`. All stages of an iteration see the same frames of a video. Held-out videos, and whatever is
    /// read outside an iteration, are seen by the frame in the middle of each segment. A video of fewer frames than
    /// segments repeats frames, always the same.
    Jittered {
        /// Number of segments, 1 to 1024; with `fps`, the most of them. Default 8, with `fps` 64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frames: Option<usize>,
        /// Segments per second of the video, more than 0: a longer video has more of them. Default none: all have
        /// `frames`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fps: Option<f64>,
        /// Whether all segments have one offset, or each has its own.
        #[serde(default, skip_serializing_if = "Offsets::is_shared")]
        offsets: Offsets,
    },
}

fn one() -> f64 {
    1.0
}

fn ten() -> f64 {
    10.0
}

fn eight() -> usize {
    8
}

fn sixty_four() -> usize {
    64
}

impl Default for FrameSampling {
    fn default() -> Self {
        Self::Uniform { frames: eight() }
    }
}

impl FrameSampling {
    /// Checks ranges; the message names the first value out of range.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let (key, frames) = match self {
            Self::Uniform { frames } | Self::FirstSeconds { frames, .. } => ("frames", *frames),
            Self::Fps { max_frames, .. } => ("max_frames", *max_frames),
            Self::Jittered { frames, fps, .. } => ("frames", most_segments(*frames, *fps)),
        };
        if !(1..=MOST_FRAMES).contains(&frames) {
            return Err(format!("sampling.{key} is {frames}, but must be from 1 to {MOST_FRAMES}"));
        }
        match self {
            Self::FirstSeconds { seconds, .. } => positive("seconds", *seconds),
            Self::Fps { fps, .. } | Self::Jittered { fps: Some(fps), .. } => positive("fps", *fps),
            Self::Uniform { .. } | Self::Jittered { fps: None, .. } => Ok(()),
        }
    }

    /// Whether frames are drawn at random.
    pub(crate) fn is_drawn(&self) -> bool {
        matches!(self, Self::Jittered { .. })
    }

    /// Non-decreasing indices of the sampled frames of a video with these timestamps (seconds,
    /// non-decreasing, the first 0); empty for a video without frames. `None` if the rule needs timestamps and
    /// all are 0.
    ///
    /// For [`Self::FirstSeconds`] the timestamps may end with the frames of those seconds. `draw` is the seed of
    /// [`Self::Jittered`]; without one it takes the middle of each segment.
    pub(crate) fn choose(&self, timestamps: &[f64], draw: Option<u64>) -> Option<Vec<usize>> {
        let n = timestamps.len();
        let last = timestamps.last().copied().unwrap_or_default();
        let timeless = n > 1 && last <= 0.0;
        match *self {
            Self::Uniform { frames } => Some(linspace(n, frames)),
            Self::FirstSeconds { .. } | Self::Fps { .. } | Self::Jittered { fps: Some(_), .. }
                if timeless =>
            {
                None
            }
            Self::FirstSeconds { seconds, frames } => Some(linspace(window(n, last, seconds), frames)),
            Self::Fps { fps, max_frames } => {
                let mut chosen = ticks(timestamps, fps);
                if chosen.len() > max_frames {
                    chosen = linspace(n, max_frames);
                }
                Some(chosen)
            }
            Self::Jittered { frames, fps, offsets } => {
                let most = most_segments(frames, fps);
                let by_rate = fps.map(|fps| (self.duration(timestamps, None) * fps).round() as usize);
                let count = by_rate.map_or(most, |count| count.clamp(1, most));
                Some(segments::choose(n, count, offsets, draw))
            }
        }
    }

    /// Duration in seconds of what the rule samples from: the number of its frames divided by the frame rate. `stated`
    /// is the container's rate, which replaces the rate of the timestamps where these differ by their rounding alone.
    pub(crate) fn duration(&self, timestamps: &[f64], stated: Option<f64>) -> f64 {
        let (n, last) = (timestamps.len(), timestamps.last().copied().unwrap_or_default());
        let measured = n.saturating_sub(1) as f64 / last;
        let is_stated = |rate: &f64| ((n - 1) as f64 / rate - last).abs() <= ROUNDING;
        let rate = match stated.filter(|rate| *rate > 0.0) {
            Some(rate) if n == 1 => rate,
            stated => stated.filter(|rate| n > 1 && is_stated(rate)).unwrap_or(measured),
        };
        let frames = match *self {
            Self::FirstSeconds { seconds, .. } if last > 0.0 => window(n, last, seconds),
            _ => n,
        };
        if rate.is_finite() && rate > 0.0 { frames as f64 / rate } else { 0.0 }
    }

    /// The equivalent rule for a folder of frames.
    pub(crate) fn for_folder(&self) -> Self {
        match self {
            Self::FirstSeconds { frames, .. } => Self::Uniform { frames: *frames },
            other => other.clone(),
        }
    }

    /// Time in seconds from the first frame after which no frame is sampled.
    pub(crate) fn horizon(&self) -> Option<f64> {
        match self {
            Self::FirstSeconds { seconds, .. } => Some(*seconds),
            Self::Uniform { .. } | Self::Fps { .. } | Self::Jittered { .. } => None,
        }
    }
}

/// Number of segments of [`FrameSampling::Jittered`], or with a rate the most of them.
fn most_segments(frames: Option<usize>, fps: Option<f64>) -> usize {
    frames.unwrap_or_else(|| if fps.is_some() { sixty_four() } else { eight() })
}

fn positive(key: &str, value: f64) -> Result<(), String> {
    if value > 0.0 && value <= 1e6 {
        return Ok(());
    }
    Err(format!("sampling.{key} is {value}, but must be more than 0 and at most 1000000"))
}

/// `numpy.linspace(0, n - 1, count, dtype=int)`, with numpy's order of floating-point operations.
fn linspace(n: usize, count: usize) -> Vec<usize> {
    let Some(last) = n.checked_sub(1) else { return Vec::new() };
    let intervals = count.saturating_sub(1).max(1);
    let step = last as f64 / intervals as f64;
    let mut indices: Vec<usize> = (0..count).map(|i| (i as f64 * step) as usize).collect();
    if let [_, .., end] = indices.as_mut_slice() {
        *end = last;
    }
    indices
}

/// Number of frames within the first `seconds` as computed with decord: `min(int(average fps * seconds), n)`,
/// at least one; `last` is the timestamp of the last of `n` frames.
fn window(n: usize, last: f64, seconds: f64) -> usize {
    if n < 2 {
        return n;
    }
    let fps = (n - 1) as f64 / last;
    ((fps * seconds + SLACK) as usize).clamp(1, n)
}

/// Indices of the frames shown at multiples of `1 / fps`, without repetition.
fn ticks(timestamps: &[f64], fps: f64) -> Vec<usize> {
    let nexts = timestamps.iter().skip(1).map(Some).chain([None]);
    let shown = timestamps.iter().zip(nexts).enumerate().filter(|(_, (start, next))| {
        let tick = ((*start - ROUNDING) * fps).ceil();
        match next {
            Some(next) => tick < (*next - ROUNDING) * fps,
            // The duration of the last frame is unknown: it counts only for a tick at its start.
            None => tick <= (*start + ROUNDING) * fps,
        }
    });
    shown.map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Timestamps as a container with a clock of 1 ms gives them.
    fn clip(frames: usize, fps: f64) -> Vec<f64> {
        (0..frames).map(|i| (i as f64 / fps * 1000.0).round() / 1000.0).collect()
    }

    fn uniform(n: usize, frames: usize) -> Vec<usize> {
        FrameSampling::Uniform { frames }.choose(&clip(n, 25.0), None).unwrap()
    }

    /// Rows `n count indices` from numpy; `tests/fixtures/linspace.py` made them.
    #[test]
    fn even_spacing_is_numpys() {
        let table = include_str!("../tests/fixtures/linspace.txt");
        for row in table.lines() {
            let numbers: Vec<usize> = row.split(' ').map(|word| word.parse().unwrap()).collect();
            assert_eq!(linspace(numbers[0], numbers[1]), numbers[2..], "n = {}", numbers[0]);
        }
        assert!(table.lines().count() > 200);
    }

    #[test]
    fn short_videos_repeat_frames() {
        assert_eq!(uniform(3, 8), [0, 0, 0, 0, 1, 1, 1, 2]);
        assert_eq!(uniform(1, 3), [0, 0, 0]);
        assert_eq!(uniform(10, 1), [0]);
        assert_eq!(uniform(24, 8), [0, 3, 6, 9, 13, 16, 19, 23]);
    }

    #[test]
    fn the_first_seconds_are_as_many_frames_as_decord_counts() {
        for (fps, expected) in [(24.0, 240), (25.0, 250), (30.0, 300), (30000.0 / 1001.0, 299), (12.5, 125)]
        {
            let times = clip(400, fps);
            assert_eq!(window(times.len(), *times.last().unwrap(), 10.0), expected.min(400), "{fps} fps");
            let cut: Vec<f64> = times.into_iter().filter(|time| *time < 10.0).collect();
            assert_eq!(window(cut.len(), *cut.last().unwrap(), 10.0), expected, "{fps} fps, cut");
        }
        let rule = FrameSampling::FirstSeconds { seconds: 10.0, frames: 8 };
        assert_eq!(
            rule.choose(&clip(48, 24.0), None).unwrap(),
            uniform(48, 8),
            "a short video is taken whole"
        );
        assert_eq!(*rule.choose(&clip(900, 30.0), None).unwrap().last().unwrap(), 299);
    }

    #[test]
    fn a_fixed_rate_takes_the_frame_on_screen() {
        let at = |fps, max_frames, times: &[f64]| {
            FrameSampling::Fps { fps, max_frames }.choose(times, None).unwrap()
        };
        assert_eq!(at(1.0, 64, &clip(90, 30.0)), [0, 30, 60]);
        assert_eq!(at(1.0, 64, &clip(91, 30.0)), [0, 30, 60, 90]);
        assert_eq!(at(30.0, 64, &clip(60, 30.0)), (0..60).collect::<Vec<_>>());
        assert_eq!(
            at(1000.0, 64, &clip(60, 30.0)),
            (0..60).collect::<Vec<_>>(),
            "never more than there are"
        );
        assert_eq!(at(1.0, 64, &[0.0, 0.9, 1.4, 5.0]), [0, 1, 2, 3], "uneven frames");
        assert_eq!(at(30.0, 8, &clip(60, 30.0)), uniform(60, 8), "above the cap");
    }

    #[test]
    fn the_duration_is_that_of_the_frames_that_are_sampled_from() {
        let uniform = FrameSampling::Uniform { frames: 7 };
        let of = |times: &[f64], stated| uniform.duration(times, stated);
        // Rounded to 1 ms, 900 frames at 30 a second do not make 30 seconds by themselves.
        assert_eq!(of(&clip(900, 30.0), Some(30.0)), 30.0);
        assert!((of(&clip(900, 30.0), None) - 30.0).abs() < 2e-3);
        // A stated rate that the timestamps contradict, as of a variable frame rate, does not count.
        assert!((of(&clip(100, 10.0), Some(25.0)) - 10.0).abs() < 1e-9);
        assert_eq!((of(&[0.0], Some(25.0)), of(&[0.0], None), of(&[0.0; 4], None)), (0.04, 0.0, 0.0));
        let first = FrameSampling::FirstSeconds { seconds: 10.0, frames: 8 };
        assert_eq!(first.duration(&clip(900, 25.0), Some(25.0)), 10.0);
    }

    #[test]
    fn a_rate_of_segments_gives_a_longer_video_more_of_them() {
        let count = |fps, frames, times: &[f64]| {
            let rule = FrameSampling::Jittered { frames, fps: Some(fps), offsets: Offsets::Shared };
            rule.choose(times, Some(3)).unwrap().len()
        };
        assert_eq!((count(1.0, None, &clip(90, 30.0)), count(1.0, None, &clip(300, 25.0))), (3, 12));
        assert_eq!(
            (count(0.5, None, &clip(90, 30.0)), count(0.1, None, &clip(90, 30.0))),
            (2, 1),
            "rounded"
        );
        assert_eq!(count(1.0, Some(8), &clip(300, 25.0)), 8, "never more than `frames`");
        assert_eq!(count(100.0, None, &clip(300, 25.0)), 64, "nor by default than 64");
        assert_eq!(count(2.0, None, &[0.0]), 1);
        // Three seconds of uneven frames, of which each segment has as many.
        let uneven = [0.0, 0.1, 0.2, 0.3, 0.4, 2.5];
        let rule = FrameSampling::Jittered { frames: None, fps: Some(1.0), offsets: Offsets::Shared };
        assert_eq!(rule.choose(&uneven, None).unwrap(), [1, 3, 5]);
    }

    #[test]
    fn rules_of_time_need_timestamps() {
        let timeless = [0.0; 4];
        assert_eq!(FrameSampling::FirstSeconds { seconds: 1.0, frames: 2 }.choose(&timeless, None), None);
        assert_eq!(FrameSampling::Fps { fps: 1.0, max_frames: 2 }.choose(&timeless, None), None);
        assert_eq!(FrameSampling::Uniform { frames: 2 }.choose(&timeless, None), Some(vec![0, 3]));
        let jittered = |fps| FrameSampling::Jittered { frames: Some(2), fps, offsets: Offsets::Shared };
        assert_eq!(jittered(Some(1.0)).choose(&timeless, None), None);
        assert_eq!(jittered(None).choose(&timeless, None), Some(vec![1, 3]));
    }

    #[test]
    fn out_of_range_values_are_named() {
        let message = |rule: FrameSampling| rule.validate().unwrap_err();
        assert_eq!(
            message(FrameSampling::Uniform { frames: 0 }),
            "sampling.frames is 0, but must be from 1 to 1024"
        );
        assert!(
            message(FrameSampling::Fps { fps: f64::NAN, max_frames: 1 }).contains("sampling.fps is NaN")
        );
        assert!(message(FrameSampling::Fps { fps: 1.0, max_frames: 2000 }).contains("sampling.max_frames"));
        assert!(
            message(FrameSampling::FirstSeconds { seconds: -1.0, frames: 8 }).contains("sampling.seconds")
        );
        let jittered = |frames, fps| FrameSampling::Jittered { frames, fps, offsets: Offsets::Shared };
        assert!(message(jittered(Some(0), None)).contains("sampling.frames is 0"));
        assert!(message(jittered(None, Some(0.0))).contains("sampling.fps is 0"));
    }

    fn rules() -> impl Strategy<Value = FrameSampling> {
        prop_oneof![
            (1_usize..=64).prop_map(|frames| FrameSampling::Uniform { frames }),
            (0.01..30.0, 1_usize..=64)
                .prop_map(|(seconds, frames)| FrameSampling::FirstSeconds { seconds, frames }),
            (0.01..120.0, 1_usize..=64)
                .prop_map(|(fps, max_frames)| FrameSampling::Fps { fps, max_frames }),
            (proptest::option::of(1_usize..=64), proptest::option::of(0.01..120.0)).prop_map(
                |(frames, fps)| { FrameSampling::Jittered { frames, fps, offsets: Offsets::Independent } }
            ),
        ]
    }

    proptest! {
        #[test]
        fn every_rule_names_existing_frames_in_order(
            rule in rules(),
            n in 1_usize..2000,
            rate in 1.0..60.0,
            draw: Option<u64>,
        ) {
            let chosen = rule.choose(&clip(n, rate), draw).unwrap();
            prop_assert!(chosen[0] == 0 || rule.is_drawn());
            prop_assert!(chosen.is_sorted() && chosen.iter().all(|index| *index < n));
            match rule {
                FrameSampling::Uniform { frames } => {
                    prop_assert_eq!(chosen.len(), frames);
                    prop_assert!(frames == 1 || chosen[frames - 1] == n - 1);
                }
                FrameSampling::FirstSeconds { frames, .. } => prop_assert_eq!(chosen.len(), frames),
                FrameSampling::Fps { max_frames, .. } => prop_assert!(chosen.len() <= max_frames),
                FrameSampling::Jittered { frames, fps, .. } => {
                    let most = most_segments(frames, fps);
                    prop_assert!(chosen.len() == most || fps.is_some() && (1..most).contains(&chosen.len()));
                }
            }
        }

        #[test]
        fn even_spacing_is_even(n in 1_usize..2000, count in 2_usize..100) {
            let gaps: Vec<usize> = linspace(n, count).windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
            // Floating point may put one index a frame early, as it does in numpy.
            prop_assert!(most - least <= 2);
        }

        #[test]
        fn what_follows_the_first_seconds_does_not_matter(n in 2_usize..900, rate in 1.0..60.0, seconds in 1.0..9.0) {
            let rule = FrameSampling::FirstSeconds { seconds, frames: 8 };
            let all = clip(n, rate);
            let cut: Vec<f64> = all.iter().copied().filter(|time| *time < seconds).collect();
            prop_assume!(cut.len() > 1);
            let (long, short) = (rule.choose(&all, None).unwrap(), rule.choose(&cut, None).unwrap());
            prop_assert!(long.iter().zip(&short).all(|(a, b)| a.abs_diff(*b) <= 1), "{long:?} {short:?}");
        }
    }
}
