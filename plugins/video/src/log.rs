//! What ffmpeg says: one line of `showinfo` for each frame, and errors.

/// Frames that are counted, so that a log takes at most 16 MiB.
pub(crate) const MOST_COUNTED: usize = 1 << 20;

/// What a pass left in the log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Presentation time of each frame in ticks of the time base; `None` where the stream has none.
    pub(crate) ticks: Vec<Option<i64>>,
    /// The container was recognised and opened.
    pub(crate) opened: bool,
    /// Width and height of the first frame.
    pub(crate) size: Option<(u32, u32)>,
    /// A later frame has another size or pixel format.
    pub(crate) changes: bool,
    /// There are more than [`MOST_COUNTED`] frames.
    pub(crate) endless: bool,
    /// The first error, without addresses, which differ from run to run.
    pub(crate) error: Option<String>,
    /// An error that says a picture is larger than `max_pixels`.
    pub(crate) too_large: bool,
    /// The first line that is no log line: what the shell or the dynamic linker says.
    pub(crate) foreign: Option<String>,
    /// Seconds of a tick, as a fraction.
    time_base: (f64, f64),
    seen: usize,
}

impl Log {
    /// Reads one line.
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

    /// Presentation times in seconds from the first frame on, non-decreasing. A frame without one takes
    /// that of the frame before it.
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
        if let Some(base) = message.strip_prefix("config in").and_then(|rest| field(rest, "time_base:")) {
            let base = base.trim_end_matches(',').split_once('/');
            let base = base.and_then(|(num, den)| Some((num.parse().ok()?, den.parse().ok()?)));
            self.time_base = base.filter(|(_, den)| *den > 0.0).unwrap_or((0.0, 1.0));
            return;
        }
        let (Some(n), Some(pts), Some(size)) =
            (field(message, "n:"), field(message, "pts:"), field(message, "s:").and_then(parse_size))
        else {
            return;
        };
        // The filter graph is made anew, and counts from zero, when the format changes.
        self.changes |= n.parse() != Ok(self.seen) || self.size.is_some_and(|first| first != size);
        self.size.get_or_insert(size);
        self.seen += 1;
        self.endless |= self.ticks.len() == MOST_COUNTED;
        if !self.endless {
            self.ticks.push(pts.parse().ok());
        }
    }
}

/// `[h264 @ 0x55d0] [error] no frame!`, where the context may be missing or be several.
struct Line<'a> {
    /// The first context, without its address.
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

/// The word after a key, which may be padded: `pts:   512 pts_time:0.02`.
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
