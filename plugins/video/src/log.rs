//! Parsing of ffmpeg's log: a `showinfo` line per frame, and errors.

/// Maximum number of frames of a video, which bounds a log to 16 MiB.
pub(crate) const MOST_COUNTED: usize = 1 << 20;

/// Parsed log of a pass.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Presentation timestamp of each frame in ticks of the time base; `None` if the stream has none.
    pub(crate) ticks: Vec<Option<i64>>,
    /// Whether the container was recognised and opened.
    pub(crate) opened: bool,
    /// Width and height of the first frame.
    pub(crate) size: Option<(u32, u32)>,
    /// Whether a later frame has another size or pixel format.
    pub(crate) changes: bool,
    /// Whether there are more than [`MOST_COUNTED`] frames.
    pub(crate) endless: bool,
    /// First error, without memory addresses, which differ between runs.
    pub(crate) error: Option<String>,
    /// Whether a frame exceeds `max_pixels`.
    pub(crate) too_large: bool,
    /// First line that is no log line, such as a message of the shell or the dynamic linker.
    pub(crate) foreign: Option<String>,
    /// Frame rate that the container states, in frames per second.
    pub(crate) frame_rate: Option<f64>,
    /// Duration of a tick in seconds, as numerator and denominator.
    time_base: (f64, f64),
    seen: usize,
}

impl Log {
    /// Parses one line.
    pub(crate) fn read(&mut self, line: &str) {
        let parsed = Line::parse(line);
        match parsed.level {
            Some("error" | "fatal" | "panic") => self.read_error(&parsed),
            Some("info") if parsed.context.starts_with("Parsed_showinfo") => {
                self.read_frame(parsed.message)
            }
            Some(_) => self.opened |= parsed.message.starts_with("Input #0"),
            None => {
                self.foreign.get_or_insert_with(|| line.to_owned());
            }
        }
    }

    /// Timestamps in seconds from the first frame, non-decreasing. A frame without one gets that of the frame
    /// before it.
    pub(crate) fn timestamps(&self) -> Vec<f64> {
        let start = self.ticks.iter().flatten().next().copied().unwrap_or_default();
        let mut latest = 0.0_f64;
        let seconds = |tick: i64| tick.saturating_sub(start) as f64 * self.time_base.0 / self.time_base.1;
        let step = |tick: &Option<i64>| {
            latest = tick.map_or(latest, |tick| latest.max(seconds(tick)));
            latest
        };
        self.ticks.iter().map(step).collect()
    }

    fn read_error(&mut self, line: &Line<'_>) {
        self.too_large |= line.message.contains("exceeds specified max pixel count");
        self.error.get_or_insert_with(|| match line.context {
            "" => line.message.to_owned(),
            context => format!("{context}: {}", line.message),
        });
    }

    fn read_frame(&mut self, message: &str) {
        if let Some(config) = message.strip_prefix("config in") {
            if let Some(base) = field(config, "time_base:") {
                self.time_base = parse_ratio(base).unwrap_or((0.0, 1.0));
                let rate = field(config, "frame_rate:").and_then(parse_ratio);
                self.frame_rate = rate.map(|(frames, seconds)| frames / seconds);
            }
            return;
        }
        let (Some(n), Some(pts), Some(size)) =
            (field(message, "n:"), field(message, "pts:"), field(message, "s:").and_then(parse_size))
        else {
            return;
        };
        // ffmpeg rebuilds the filter graph, which counts from zero again, when the format changes.
        self.changes |= n.parse() != Ok(self.seen) || self.size.is_some_and(|first| first != size);
        self.size.get_or_insert(size);
        self.seen += 1;
        self.endless |= self.ticks.len() == MOST_COUNTED;
        if !self.endless {
            self.ticks.push(pts.parse().ok());
        }
    }
}

/// A log line such as `[h264 @ 0x55d0] [error] no frame!`, with zero or more contexts.
struct Line<'a> {
    /// First context, without its address.
    context: &'a str,
    level: Option<&'a str>,
    message: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let mut parsed = Self { context: "", level: None, message: line };
        while let Some((inner, rest)) =
            parsed.message.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            parsed.message = rest.strip_prefix(' ').unwrap_or(rest);
            match inner {
                "panic" | "fatal" | "error" | "warning" | "info" | "verbose" | "debug" | "trace" => {
                    parsed.level = Some(inner);
                    break;
                }
                _ if parsed.context.is_empty() => {
                    parsed.context = inner.split(" @ ").next().unwrap_or(inner)
                }
                _ => {}
            }
        }
        parsed
    }
}

/// The value after a key, with optional padding: `pts:   512 pts_time:0.02`.
fn field<'a>(message: &'a str, key: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let at = from + message.get(from..)?.find(key)?;
        let (before, after) = (&message[..at], &message[at + key.len()..]);
        if before.is_empty() || before.ends_with(' ') {
            return after.split_whitespace().next();
        }
        from = at + key.len();
    }
}

/// Parses `1/15360`, with an optional comma behind it.
fn parse_ratio(text: &str) -> Option<(f64, f64)> {
    let (numerator, denominator) = text.trim_end_matches(',').split_once('/')?;
    let ratio: (f64, f64) = (numerator.parse().ok()?, denominator.parse().ok()?);
    (ratio.1 > 0.0).then_some(ratio)
}

fn parse_size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Log {
        let mut log = Log::default();
        lines.iter().for_each(|line| log.read(line));
        log
    }

    const BASE: &str = "[Parsed_showinfo_2 @ 0x7f2a] [info] config in time_base: 1/15360, frame_rate: 30/1";
    const OLD: &str = "[Parsed_showinfo_2 @ 0x7f2a] [info] n:   0 pts:    512 pts_time:0.0333333 pos:       48 \
                       fmt:rgb24 sar:1/1 s:64x48 i:P iskey:1 type:I ";
    const NEW: &str = "[Parsed_showinfo_0 @ 0x7f2a] [info] n:   1 pts:   1280 pts_time:0.0833333 duration:    512 \
                       duration_time:0.0333333 fmt:rgb24 cl:left sar:1/1 s:64x48 i:P iskey:0 type:P ";

    #[test]
    fn frames_of_old_and_new_versions_are_counted() {
        let log = log(&[BASE, OLD, "[Parsed_showinfo_2 @ 0x7f2a] [info] color_range:unknown", NEW]);
        assert_eq!((log.ticks.len(), log.size, log.changes), (2, Some((64, 48)), false));
        assert_eq!(log.timestamps(), [0.0, 0.05]);
        assert_eq!(log.frame_rate, Some(30.0));
    }

    #[test]
    fn a_new_count_or_size_is_a_change() {
        assert!(log(&[BASE, OLD, OLD]).changes);
        assert!(log(&[BASE, OLD, &NEW.replace("64x48", "48x64")]).changes);
    }

    #[test]
    fn missing_and_falling_timestamps_repeat_the_last() {
        let with = |n: usize, pts: &str| NEW.replace("n:   1", &format!("n: {n}")).replace("   1280", pts);
        let lines = [with(0, "0"), with(1, "15360"), with(2, "NOPTS"), with(3, "7680"), with(4, "30720")];
        let lines: Vec<&str> = [BASE].into_iter().chain(lines.iter().map(String::as_str)).collect();
        assert_eq!(log(&lines).timestamps(), [0.0, 1.0, 1.0, 1.0, 2.0]);
    }

    #[test]
    fn the_first_error_is_kept_without_addresses() {
        let log = log(&[
            "[h264 @ 0x1a2b] [warning] odd",
            "[vist#0:0/h264 @ 0x3c] [dec:h264 @ 0x4d] [error] no frame!",
            "[fatal] the end",
        ]);
        assert_eq!(log.error.as_deref(), Some("vist#0:0/h264: no frame!"));
    }

    #[test]
    fn metadata_cannot_pass_for_the_log() {
        let log = log(&[
            "[info]     title           : [error] x",
            "[info]     title : [Parsed_showinfo_0 @ 1] n: 0",
        ]);
        assert!(log.error.is_none() && log.ticks.is_empty() && log.foreign.is_none() && !log.opened);
    }
}
