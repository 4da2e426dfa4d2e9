//! Parts of videos: [`VideoSpan`].

use std::fmt;
use std::path::{Path, PathBuf};

/// What stands between the path of a video and its span.
const MARK: &str = "#t=";

/// The part of a video between two times, as a media fragment behind its path: `clip.mp4#t=3.5,10` (W3C Media
/// Fragments URI 1.0, normal play time in seconds).
///
/// The span stands in the path, so that it is part of the video's key ([`video_key`](crate::video_key)). Whoever opens
/// the file of a path takes it off ([`VideoSpan::split`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoSpan {
    /// Start in seconds from the video's first frame. A frame at this time belongs to the span.
    pub start: f64,
    /// End in seconds from the video's first frame; a frame at this time does not belong to it. `None` is the video's
    /// end.
    pub end: Option<f64>,
}

impl VideoSpan {
    /// Splits a path into that of the file or folder and the span; `None` for a whole video.
    /// ```
    /// use std::path::Path;
    /// use isr_api::VideoSpan;
    ///
    /// let (file, span) = VideoSpan::split(Path::new("clip.mp4#t=3.5,10"));
    /// assert_eq!(file, Path::new("clip.mp4"));
    /// assert_eq!(span, Some(VideoSpan { start: 3.5, end: Some(10.0) }));
    /// ```
    pub fn split(video: &Path) -> (&Path, Option<Self>) {
        let parts = || {
            let (file, times) = video.to_str()?.rsplit_once(MARK)?;
            Some((Path::new(file), Self::parse(times)?))
        };
        parts().map_or((video, None), |(file, span)| (file, Some(span)))
    }

    /// The path of this part of the video at a path.
    pub fn of(self, video: &Path) -> PathBuf {
        let mut path = video.as_os_str().to_owned();
        path.push(self.to_string());
        PathBuf::from(path)
    }

    /// Checks that the span has a start of at least 0 before its end; the message says what is wrong.
    pub fn validate(self) -> Result<(), String> {
        match self {
            Self { start, .. } if start.is_nan() || start < 0.0 => {
                Err(format!("its start, {start} s, is before the start of the video"))
            }
            Self { start, end: Some(end) } if end.is_nan() || end <= start => {
                Err(format!("its end, {end} s, is not behind its start, {start} s"))
            }
            _ => Ok(()),
        }
    }

    /// Parses `3.5,10`, `3.5` (to the end) or `,10` (from the start).
    fn parse(times: &str) -> Option<Self> {
        let times = times.strip_prefix("npt:").unwrap_or(times);
        let number = |text: &str| text.parse().ok().filter(|time: &f64| time.is_finite());
        let (start, end) = match times.split_once(',') {
            Some((start, end)) => (start, Some(number(end)?)),
            None => (times, None),
        };
        let start = if start.is_empty() && end.is_some() { 0.0 } else { number(start)? };
        Some(Self { start, end })
    }
}

impl fmt::Display for VideoSpan {
    /// Writes `#t=3.5,10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end } = self;
        write!(f, "{MARK}{start}")?;
        end.map_or(Ok(()), |end| write!(f, ",{end}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stand_behind_paths() {
        let split = |text: &'static str| VideoSpan::split(Path::new(text));
        let part = |start, end| Some(VideoSpan { start, end });
        let file = Path::new("a/b#c.mp4");
        assert_eq!(split("a/b#c.mp4#t=3.5,10"), (file, part(3.5, Some(10.0))));
        assert_eq!(split("a/b#c.mp4#t=7"), (file, part(7.0, None)));
        assert_eq!(split("a/b#c.mp4#t=npt:,2"), (file, part(0.0, Some(2.0))));
        for whole in
            ["a.mp4", "a#t=.mp4", "a.mp4#t=", "a.mp4#t=1,", "a.mp4#t=1,2,3", "a.mp4#t=x", "a#t=inf"]
        {
            assert_eq!(split(whole), (Path::new(whole), None), "{whole}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (start, end) in [(0.0, None), (0.1, Some(1e-3)), (12.0, Some(1234.5)), (-1.0, Some(1e7))] {
            let span = VideoSpan { start, end };
            assert_eq!(VideoSpan::split(&span.of(Path::new("x.mp4"))), (Path::new("x.mp4"), Some(span)));
        }
    }

    #[test]
    fn the_start_is_before_the_end() {
        let reason = |start, end| VideoSpan { start, end }.validate().unwrap_err();
        assert!(reason(3.0, Some(3.0)).contains("end, 3 s, is not behind its start, 3 s"));
        assert!(reason(-1.0, None).contains("before the start of the video"));
        assert_eq!(VideoSpan { start: 0.0, end: Some(0.1) }.validate(), Ok(()));
    }
}
