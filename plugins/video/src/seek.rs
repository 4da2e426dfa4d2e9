//! Frames of a long video, decoded from the key frames before them instead of from its start.
//!
//! The container's packets tell the frames' timestamps ([`PacketIndex`]), of which the rule chooses. The chosen frames
//! that are near each other are one stretch, decoded by one process from the key frame before the first of them. A
//! stretch counts if its decoder reported no error and its frames, from that key frame on, are those of the index,
//! timestamp by timestamp. If one does not, the video is decoded from its start.

use std::ops::Range;

use futures::stream::{self, StreamExt, TryStreamExt};
use isr_api::Frames;

use crate::clip::{Clip, MOST_BYTES};
use crate::command::{Care, Pass};
use crate::error::VideoError;
use crate::index::PacketIndex;
use crate::log::Log;

/// Fewest frames of a video in which frames are sought: a minute at 25 frames a second. Shorter videos are decoded
/// whole, which notices damage in any frame.
const LONG: usize = 1500;

/// Cost of starting a process and opening the file, in decoded frames: 0.1 s at the 300 frames of 720p that a core
/// decodes in a second.
const START: usize = 30;

/// Most bytes of an index: those of the frames that are counted at most, of which each takes a line of 70.
const MOST_INDEX: usize = 96 << 20;

/// Chosen frames that are decoded by one process.
#[derive(Debug, PartialEq)]
struct Stretch {
    /// Position of the frame at which decoding starts.
    start: usize,
    /// Positions of the chosen frames, rising.
    wanted: Vec<usize>,
}

impl Stretch {
    /// Positions of the frames that are decoded.
    fn decoded(&self) -> Range<usize> {
        self.start..self.wanted.last().map_or(self.start, |last| last + 1)
    }
}

/// Why frames were not sought, or are not certain.
enum Unsought {
    /// What the index or a stretch lacks.
    Reason(String),
    /// An error that decoding from the start would meet, too.
    Error(VideoError),
}

impl From<VideoError> for Unsought {
    fn from(error: VideoError) -> Self {
        match error {
            VideoError::Shortage { .. }
            | VideoError::Broken(_)
            | VideoError::Ffmpeg(_)
            | VideoError::TimedOut { .. } => Self::Error(error),
            other => Self::Reason(other.to_string()),
        }
    }
}

/// Splits chosen frames, rising, into stretches: a frame joins the one before it where decoding on costs no more than
/// starting anew. Together they cost no more than one pass from the start, of which there are two without seeking.
fn stretches(index: &PacketIndex, wanted: &[usize]) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for frame in wanted.iter().copied() {
        let start = index.start(frame);
        match all.last_mut() {
            Some(stretch) if start <= stretch.decoded().end + START => stretch.wanted.push(frame),
            _ => all.push(Stretch { start, wanted: vec![frame] }),
        }
    }
    all
}

impl Clip<'_> {
    /// Decodes the sampled frames by seeking; `None` if they must be decoded from the start. Takes the permits that are
    /// free to decode stretches side by side.
    pub(crate) async fn seek(&self) -> Result<Option<Frames>, VideoError> {
        // The first seconds are decoded faster than all packets are listed.
        let starts = self.part.span.is_none_or(|span| span.start <= 0.0);
        if !self.config.seek || starts && self.config.sampling.horizon().is_some() {
            return Ok(None);
        }
        let video = self.path.display();
        match self.sought().await {
            Ok(frames) => Ok(Some(frames)),
            Err(Unsought::Reason(reason)) => {
                tracing::debug!(%video, reason, "decoding from the start");
                Ok(None)
            }
            Err(Unsought::Error(error)) => Err(error),
        }
    }

    async fn sought(&self) -> Result<Frames, Unsought> {
        let (listed, log) = self.pass(Pass::Index, Care::Strict, MOST_INDEX).await?;
        let listed = listed.ok_or_else(|| Unsought::Reason("too many packets".into()))?;
        certain(&log)?;
        let index = PacketIndex::parse(&String::from_utf8_lossy(&listed)).map_err(Unsought::Reason)?;
        drop(listed);
        let count = index.frames.len();
        let chosen = self.choose(&Log::of_index(&index))?;
        let wanted = chosen.distinct();
        let end = match self.part.span {
            None => count,
            Some(_) => wanted.last().map_or(0, |last| last + 1),
        };
        if end < LONG {
            return Err(Unsought::Reason(format!(
                "{end} frames are decoded from its start, fewer than {LONG}"
            )));
        }
        let parts = stretches(&index, &wanted);
        let decoded: usize = parts.iter().map(|it| it.decoded().len()).sum();
        let free: Vec<_> = (1..parts.len()).map_while(|_| self.permits.try_acquire().ok()).collect();
        let processes = free.len() + 1;
        let video = self.path.display();
        tracing::debug!(%video, frames = count, decoded, stretches = parts.len(), processes, "seeking");
        let decoding: Vec<_> = parts.iter().map(|stretch| self.stretch(&index, stretch)).collect();
        let decoded: Vec<(Vec<u8>, Log)> = stream::iter(decoding).buffered(processes).try_collect().await?;
        drop(free);
        let mut whole = Log::default();
        let mut rgb = Vec::with_capacity(decoded.iter().map(|(bytes, _)| bytes.len()).sum());
        for (bytes, log) in decoded {
            if !whole.append(&log) {
                return Err(Unsought::Reason("stretches differ in their format".into()));
            }
            rgb.extend(bytes);
        }
        let places: Vec<usize> =
            chosen.indices.iter().map(|frame| wanted.partition_point(|it| it < frame)).collect();
        Ok(self.assemble(&rgb, &whole, &places, &chosen)?)
    }

    /// Decodes a stretch, and checks that its frames are those of the index.
    async fn stretch(&self, index: &PacketIndex, stretch: &Stretch) -> Result<(Vec<u8>, Log), Unsought> {
        let ticks: Vec<i64> =
            stretch.wanted.iter().filter_map(|frame| index.frames.get(*frame).copied()).collect();
        let pass = Pass::Stretch { from: seek_time(index, stretch), ticks: &ticks };
        let (bytes, log) = self.pass(pass, Care::Lenient, MOST_BYTES).await?;
        let bytes = bytes.ok_or_else(|| Unsought::Reason("too many bytes".into()))?;
        certain(&log)?;
        agree(index, &log, &ticks).map_err(Unsought::Reason)?;
        Ok((bytes, log))
    }
}

/// Time in seconds to seek, in the middle of the first wanted frame, so that rounding does not matter; `None` from the
/// start of the stream.
fn seek_time(index: &PacketIndex, stretch: &Stretch) -> Option<f64> {
    let first = *stretch.wanted.first().filter(|_| stretch.start > 0)?;
    let (pts, next) = (*index.frames.get(first)?, index.frames.get(first + 1).copied());
    let middle = next.map_or(0.0, |next| (next - pts) as f64 / 2.0);
    Some((pts as f64 + middle) * index.time_base.0 / index.time_base.1)
}

/// Refuses a pass with an error behind which frames may differ from those that decoding from the start gives.
fn certain(log: &Log) -> Result<(), Unsought> {
    match log.unsound.as_ref().or(log.damage.as_ref()) {
        Some(reason) => Err(Unsought::Reason(reason.clone())),
        None if log.torn => Err(Unsought::Reason("its log is torn".into())),
        None => Ok(()),
    }
}

/// Compares the frames of a stretch with the index: the first is at a key frame, all follow one another, and those
/// with the timestamps `ticks` were written.
fn agree(index: &PacketIndex, log: &Log, ticks: &[i64]) -> Result<(), String> {
    if log.time_base() != index.time_base {
        return Err("the decoder's time base is not that of the packets".into());
    }
    if log.ticks.iter().copied().ne(ticks.iter().copied().map(Some)) {
        return Err(format!("the frames at {ticks:?} were not found"));
    }
    let (Some(first), Some(last)) = (log.passed.first(), ticks.last()) else {
        return Err("nothing was decoded".into());
    };
    let start = index.position(first.0);
    let key = index.keys.iter().find(|key| index.position(**key) == start);
    match key {
        None => return Err(format!("decoding starts at {}, which is no key frame", first.0)),
        Some(key) if *key == first.0 && !first.1 => {
            return Err(format!("the key frame {key} is not coded alone"));
        }
        Some(_) => {}
    }
    let expected = &index.frames[start..];
    let whole = log.passed.len() <= expected.len()
        && log.passed.iter().map(|it| it.0).eq(expected[..log.passed.len()].iter().copied())
        && log.passed.last().is_some_and(|it| it.0 >= *last);
    if whole { Ok(()) } else { Err(format!("frames from {} on are not those of the packets", first.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 10 ticks with a key frame each `gop` frames.
    fn index(frames: i64, gop: usize) -> PacketIndex {
        let frames: Vec<i64> = (0..frames).map(|it| it * 10).collect();
        let keys = frames.iter().copied().step_by(gop).collect();
        PacketIndex { frames, keys, time_base: (1.0, 250.0), size: (64, 48) }
    }

    fn part(start: usize, wanted: &[usize]) -> Stretch {
        Stretch { start, wanted: wanted.to_vec() }
    }

    #[test]
    fn frames_of_a_gop_are_decoded_together() {
        let parts = stretches(&index(1000, 250), &[0, 142, 285, 428, 999]);
        assert_eq!(parts, [part(0, &[0, 142]), part(250, &[285, 428]), part(750, &[999])]);
        assert_eq!(
            stretches(&index(1000, 250), &[230, 260]),
            [part(0, &[230, 260])],
            "starting anew costs more"
        );
        assert_eq!(seek_time(&index(1000, 250), &parts[1]), Some(11.42));
        assert_eq!((seek_time(&index(1000, 250), &parts[0]), parts[1].decoded()), (None, 250..429));
    }

    #[test]
    fn no_more_is_decoded_than_from_the_start() {
        for (gop, step) in [(250, 4000), (20, 50), (1500, 200), (40, 41), (1, 40), (7, 3)] {
            let wanted: Vec<usize> = (0..1500).step_by(step).collect();
            let parts = stretches(&index(1500, gop), &wanted);
            let cost: usize = parts.iter().map(|it| it.decoded().len() + START).sum();
            assert!(cost <= 1500 + START, "{gop} {step}: {cost}");
            assert_eq!(parts.into_iter().flat_map(|it| it.wanted).collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn frames_that_are_not_those_of_the_index_are_refused() {
        let index = index(100, 50);
        let check = |passed: &[(i64, bool)], found: &[i64], ticks: &[i64]| {
            let mut log = Log::of_index(&index);
            log.ticks = found.iter().copied().map(Some).collect();
            log.passed = passed.to_vec();
            agree(&index, &log, ticks)
        };
        let from = |first: i64, last: i64| -> Vec<(i64, bool)> {
            (first..=last).map(|it| (it * 10, it == first)).collect()
        };
        assert_eq!(check(&from(50, 61), &[600], &[600]), Ok(()));
        assert_eq!(check(&from(0, 60), &[600], &[600]), Ok(()), "an earlier key frame");
        assert!(check(&from(51, 60), &[600], &[600]).unwrap_err().contains("no key frame"));
        assert!(check(&from(50, 59), &[600], &[600]).unwrap_err().contains("not those"));
        assert!(check(&from(50, 60), &[590], &[600]).unwrap_err().contains("not found"));
        let mut hole = from(50, 61);
        hole.remove(4);
        assert!(check(&hole, &[600], &[600]).unwrap_err().contains("not those"));
        let inter = [(500, false), (510, false)];
        assert!(check(&inter, &[510], &[510]).unwrap_err().contains("coded alone"));
    }
}
