//! Parsing of ffmpeg's log: a `showinfo` line per frame, and errors.
//!
//! ffmpeg writes a line of `showinfo` in pieces, and another thread's message may get between them, where it loses
//! its level. The rest of the line then begins a line of its own, by which this is noticed.
//!
//! Whether an error is damage is decided here, too. Errors of a clip that was cut out of a longer one by stream
//! copy are not: its first pictures refer to frames before the cut, and no player shows them.

use isr_ffmpeg::remedy_for_message;

use crate::clip::Complaints;
use crate::index::PacketIndex;

/// Context of a `showinfo` that is the first filter.
const FIRST_FILTER: &str = "Parsed_showinfo_0";

/// Maximum number of frames of a video, which bounds a log to 16 MiB.
pub(crate) const MOST_COUNTED: usize = 1 << 20;

/// Contexts of the writer of the output, whose errors say nothing about the file.
const WRITER: [&str; 4] = ["out#", "vost#", "enc:", "mux"];

/// Contexts of video decoders and their parsers.
const DECODERS: [&str; 16] = [
    "h264",
    "hevc",
    "vvc",
    "av1",
    "libdav1d",
    "libaom-av1",
    "vp8",
    "vp9",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "vc1",
    "wmv3",
    "vist#",
    "dec:",
    "",
];

/// Contexts of decoders of sound, which is probed but not used.
const SOUND: [&str; 13] = [
    "aac",
    "aac_fixed",
    "ac3",
    "alac",
    "amrnb",
    "amrwb",
    "eac3",
    "flac",
    "mp2float",
    "mp3float",
    "opus",
    "vorbis",
    "wmav2",
];

/// Messages about the list of reference frames, after which decoding goes on with all frames.
const BOOKKEEPING: [&str; 2] = ["mmco: unref short failure", "number of reference frames ("];

/// Messages about pictures that refer to frames, or parameters, from before the start of the file.
const LEADING: [&str; 20] = [
    "co located POCs unavailable",
    "Could not find ref with POC",
    "decode_slice_header error",
    "does not exist",
    "Error constructing the frame RPS",
    "Error parsing OBU data",
    "Error submitting packet to decoder",
    "Error while decoding stream",
    "First slice in a frame missing",
    "Frame num gap",
    "illegal short term buffer state",
    "Missing reference picture",
    "no frame!",
    "non-existing PPS",
    "non-existing SPS",
    "Not all references are available",
    "PPS id out of range",
    "reference picture missing during reorder",
    "Requested reference",
    "without a prior keyframe",
];

/// Warnings, not errors, that tell of damage.
const DAMAGE: [&str; 4] =
    ["corrupt decoded frame", "corrupt input packet", "Packet corrupt", "Truncating packet"];

/// Beginnings of the lines without a context that follow the description of the output.
const AFTER_OUTPUT: [&str; 11] = [
    "  ",
    "demuxer",
    "decoder",
    "filter",
    "encoder",
    "muxer",
    "frame=",
    "size=",
    "video:",
    "Conversion failed",
    "Exiting normally",
];

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
    /// Whether a message may have got lost between the pieces of another.
    pub(crate) torn: bool,
    /// First error, without memory addresses, which differ between runs, and without those of the writer.
    pub(crate) error: Option<String>,
    /// First message that tells of damage.
    pub(crate) damage: Option<String>,
    /// First error, other than of sound and of the list of reference frames, behind which frames may differ from those
    /// that decoding from the start of the video gives.
    pub(crate) unsound: Option<String>,
    /// Timestamps of the frames that passed the first filter where this is a `showinfo`, each with whether it was coded
    /// without reference to others. A frame without a timestamp is left out.
    pub(crate) passed: Vec<(i64, bool)>,
    /// First of the messages that are errors but no damage.
    pub(crate) note: Option<String>,
    /// Number of these messages.
    notes: usize,
    /// First message about a shortage of the machine's resources, with the remedy.
    pub(crate) shortage: Option<(String, &'static str)>,
    /// Whether ffmpeg was told to end by a signal.
    pub(crate) interrupted: bool,
    /// Whether a frame exceeds `max_pixels`.
    pub(crate) too_large: bool,
    /// First line that is no log line, such as a message of the shell or the dynamic linker.
    pub(crate) foreign: Option<String>,
    /// Frame rate that the container states, in frames per second.
    pub(crate) frame_rate: Option<f64>,
    /// Duration of a tick in seconds, as numerator and denominator.
    time_base: (f64, f64),
    seen: usize,
    /// Whether the description of the output has begun.
    output: bool,
    /// Timestamps of packets and of decoded frames, as `-debug_ts` prints them.
    packets: Vec<Option<i64>>,
    decoded: Vec<Option<i64>>,
}

impl Log {
    /// Parses one line.
    pub(crate) fn read(&mut self, line: &str) {
        let parsed = Line::parse(line);
        match parsed.level {
            Some("error" | "fatal" | "panic") => self.read_error(&parsed),
            Some("warning") => {
                if DAMAGE.iter().any(|part| parsed.message.contains(part)) {
                    self.damage.get_or_insert_with(|| parsed.text());
                }
            }
            Some("info") if parsed.context == FIRST_FILTER => self.read_passed(parsed.message),
            Some("info") if parsed.context.starts_with("Parsed_showinfo") => {
                self.torn |=
                    !["n:", "color_range:", "config "].iter().any(|it| parsed.message.starts_with(it));
                self.read_frame(parsed.message)
            }
            Some(_) => self.read_other(&parsed),
            None => {
                self.note_shortage(line);
                self.foreign.get_or_insert_with(|| line.to_owned());
            }
        }
    }

    /// Errors that are no damage.
    pub(crate) fn complaints(&self) -> Option<Complaints> {
        Some(Complaints { count: self.notes, first: self.note.clone()? })
    }

    /// Number of frames so far, those that were decoded and not written included.
    pub(crate) fn seen(&self) -> usize {
        self.seen + self.passed.len()
    }

    /// A log that has the frames of an index.
    pub(crate) fn of_index(index: &PacketIndex) -> Self {
        let ticks = index.frames.iter().copied().map(Some).collect();
        Self { ticks, size: Some(index.size), time_base: index.time_base, ..Self::default() }
    }

    /// Adds the frames of a later part of the video; false if their size, time base or frame rate differs.
    pub(crate) fn append(&mut self, later: &Self) -> bool {
        let format = |log: &Self| (log.size, log.time_base, log.frame_rate);
        if self.ticks.is_empty() {
            (self.size, self.time_base, self.frame_rate) = format(later);
        }
        self.ticks.extend(&later.ticks);
        format(self) == format(later)
    }

    /// Duration of a tick in seconds, as numerator and denominator.
    pub(crate) fn time_base(&self) -> (f64, f64) {
        self.time_base
    }

    /// Number of frames that were lost between the first decoded one and the last: packets shown in that time,
    /// less frames. Timestamps are not compared one by one, since those of joined files fall. Zero if a packet has
    /// no timestamp, or without `-debug_ts`.
    pub(crate) fn lost(&self) -> usize {
        let all = |times: &[Option<i64>]| times.iter().copied().collect::<Option<Vec<_>>>();
        let (Some(packets), Some(frames)) = (all(&self.packets), all(&self.decoded)) else { return 0 };
        let (Some(first), Some(last)) = (frames.iter().min(), frames.iter().max()) else { return 0 };
        let shown = packets.iter().filter(|time| (first..=last).contains(time)).count();
        shown.saturating_sub(frames.len())
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
        self.note_shortage(line.message);
        let of_writer = WRITER.iter().any(|writer| line.context.starts_with(writer));
        if of_writer || line.message.contains("to muxer in stream") {
            return;
        }
        self.too_large |= line.message.contains("exceeds specified max pixel count");
        self.error.get_or_insert_with(|| line.text());
        if !SOUND.contains(&line.context) && !says(line, &BOOKKEEPING) {
            self.unsound.get_or_insert_with(|| line.text());
        }
        if self.is_harmless(line) {
            self.notes += 1;
            self.note.get_or_insert_with(|| line.text());
        } else {
            self.damage.get_or_insert_with(|| line.text());
        }
    }

    /// Whether an error costs no frame of this clip, as far as its text tells.
    fn is_harmless(&self, line: &Line<'_>) -> bool {
        let is_decoder = |name: &&str| match *name {
            "vist#" | "dec:" => line.context.starts_with(name),
            name => line.context == name,
        };
        SOUND.contains(&line.context)
            || DECODERS.iter().any(is_decoder)
                && (says(line, &BOOKKEEPING) || self.decoded.is_empty() && says(line, &LEADING))
    }

    fn note_shortage(&mut self, message: &str) {
        if let (None, Some(remedy)) = (&self.shortage, remedy_for_message(message)) {
            self.shortage = Some((message.to_owned(), remedy));
        }
    }

    fn read_other(&mut self, line: &Line<'_>) {
        let message = line.message;
        self.opened |= message.starts_with("Input #0");
        self.interrupted |= message.starts_with("Exiting normally, received signal");
        let time = |key| field(message, key).and_then(|text| text.parse().ok());
        if message.starts_with("demuxer+ffmpeg -> ") && self.packets.len() < MOST_COUNTED {
            self.packets.push(time("pkt_pts:"));
        } else if message.starts_with("decoder -> ") && self.decoded.len() < MOST_COUNTED {
            self.decoded.push(time("pts:").or_else(|| time("frame_pts:")));
        }
        // The description of the output is written in pieces as well; its lines are indented.
        let rest = self.output && line.context.is_empty() && line.level == Some("info");
        self.torn |= rest && !AFTER_OUTPUT.iter().any(|start| message.starts_with(start));
        self.output |= message.starts_with("Output #0");
    }

    fn read_passed(&mut self, message: &str) {
        let pts = field(message, "pts:").and_then(|text| text.parse().ok());
        if let (true, Some(pts)) = (message.starts_with("n:") && self.passed.len() < MOST_COUNTED, pts) {
            self.passed.push((pts, field(message, "type:") == Some("I")));
        }
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
    /// The message with its context.
    fn text(&self) -> String {
        match self.context {
            "" => self.message.to_owned(),
            context => format!("{context}: {}", self.message),
        }
    }

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

fn says(line: &Line<'_>, parts: &[&str]) -> bool {
    parts.iter().any(|part| line.message.contains(part))
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
    const NEW: &str = "[Parsed_showinfo_2 @ 0x7f2a] [info] n:   1 pts:   1280 pts_time:0.0833333 duration:    512 \
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
    fn a_message_between_the_pieces_of_a_line_is_noticed() {
        let color = "[Parsed_showinfo_2 @ 0x7f2a] [info] color_range:unknown color_space:unknown";
        assert!(!log(&[BASE, OLD, color, NEW, color]).torn);
        let glued = format!("{OLD}File ended prematurely");
        assert!(log(&[BASE, &glued, "[Parsed_showinfo_2 @ 0x7f2a] [info] ", color]).torn);
        let output = ["[info] Output #0, rawvideo, to 'pipe:1':", "[info]   Stream #0:0: Video: rawvideo"];
        assert!(!log(&output).torn);
        assert!(log(&[output[0], output[1], "[info] , 25 fps, 25 tbn"]).torn);
    }

    #[test]
    fn complaints_of_the_writer_are_not_the_files() {
        let log = log(&[
            "[out#0/rawvideo @ 0x1] [error] Nothing was written into output file",
            "[vost#0:0/rawvideo @ 0x1] [error] Error submitting a packet to the muxer: Broken pipe",
            "[rawvideo @ 0x1] [error] Application provided invalid, non monotonically increasing dts to muxer in \
             stream 0: 74 >= 74",
        ]);
        assert!(log.error.is_none() && log.damage.is_none() && log.notes == 0);
    }

    const DECODED: &str = "[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] [info] decoder -> pts:PTS pts_time:0.04 \
                           pkt_dts:0 duration:512 ";
    const PACKET: &str = "[vist#0:0/h264 @ 0x1] [info] demuxer+ffmpeg -> ist_index:0:0 type:video \
                          pkt_pts:PTS pkt_pts_time:0 pkt_dts:0 ";

    #[test]
    fn leading_pictures_are_no_damage_and_later_ones_are() {
        let frame = DECODED.replace("PTS", "0");
        let missing = "[h264 @ 0x1] [error] Missing reference picture, default is 65530";
        let leading = log(&[missing, &frame]);
        assert_eq!((leading.notes, leading.damage), (1, None));
        assert_eq!(
            log(&[&frame, missing]).damage.unwrap(),
            "h264: Missing reference picture, default is 65530"
        );
        let split = "[h264 @ 0x1] [error] Invalid NAL unit size (495 > 58).";
        assert!(log(&[split]).damage.is_some(), "a broken packet is damage wherever it is");
        assert!(log(&["[mov,mp4 @ 0x1] [error] no frame!"]).damage.is_some(), "not the decoder");
        assert!(log(&["[in#0 @ 1] [warning] corrupt input packet in stream 0"]).damage.is_some());
        assert_eq!(log(&["[aac @ 0x1] [error] Input buffer exhausted"]).damage, None);
    }

    #[test]
    fn frames_lost_behind_the_first_are_counted() {
        let at = |line: &str, times: &[i64]| {
            times.iter().map(|it| line.replace("PTS", &it.to_string())).collect()
        };
        let count = |packets: &[i64], frames: &[i64]| {
            let mut lines: Vec<String> = at(PACKET, packets);
            lines.extend::<Vec<_>>(at(DECODED, frames));
            log(&lines.iter().map(String::as_str).collect::<Vec<_>>()).lost()
        };
        assert_eq!(count(&[2, 0, 1, 4, 3], &[2, 3, 4]), 0, "0 and 1 lead");
        assert_eq!(count(&[0, 1, 2, 3, 4], &[0, 1, 4]), 2);
        assert_eq!(count(&[0, 1, 2, 3], &[0, 1]), 0, "the rest was not asked for");
    }

    #[test]
    fn shortage_of_the_machine_is_told_from_damage() {
        let log = log(&["[h264 @ 0x1] [fatal] pthread_create() failed: Resource temporarily unavailable"]);
        assert!(log.shortage.unwrap().1.contains("ulimit -u"));
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
