//! The packets of a video stream, as a container lists them, read without decoding.
//!
//! ffmpeg copies the stream to its muxer `framecrc`, which writes a line per packet:
//! `stream, dts, pts, duration, size, checksum[, F=flags]`, the flags in hexadecimal where they are not 1 (key frame).

/// Codecs of which each packet is one frame: no invisible packets, as VP8 has, and no fields or packed frames.
const CODECS: [&str; 4] = ["h264", "hevc", "vp9", "av1"];

/// Flag of a packet that starts with a key frame.
const KEY: u32 = 1;

/// Flag of a packet that is decoded but not shown, as before the start of an edit list.
const DISCARD: u32 = 4;

/// Flag of a packet to which no other refers.
const DISPOSABLE: u32 = 16;

/// Timestamps of the frames of a stream.
#[derive(Debug, PartialEq)]
pub(crate) struct PacketIndex {
    /// Presentation timestamps of the frames that are shown in ticks of the time base, rising.
    pub(crate) frames: Vec<i64>,
    /// Presentation timestamps of key frames, rising; the first is not behind the first frame.
    pub(crate) keys: Vec<i64>,
    /// Duration of a tick in seconds, as numerator and denominator.
    pub(crate) time_base: (f64, f64),
    /// Width and height of a coded frame in pixels.
    pub(crate) size: (u32, u32),
}

impl PacketIndex {
    /// Parses the output of `framecrc`.
    ///
    /// # Errors
    /// The reason why the frames of the stream are not known from its packets.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let header = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix(" 0: ").map(str::to_owned);
            text.lines().take_while(|line| line.starts_with('#')).find_map(value)
        };
        let codec = header("#codec_id").unwrap_or_default();
        if !CODECS.contains(&codec.as_str()) {
            return Err(format!("a packet of `{codec}` need not be a frame"));
        }
        let time_base = header("#tb").and_then(|it| pair::<u32>(&it, '/'));
        let (Some(time_base), Some(size)) =
            (time_base, header("#dimensions").and_then(|it| pair(&it, 'x')))
        else {
            return Err("the stream has no time base or size".into());
        };
        let (mut frames, mut keys) = (Vec::new(), Vec::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (pts, flags) =
                packet(line).ok_or_else(|| format!("a packet without a timestamp: {line}"))?;
            if flags & !(KEY | DISCARD | DISPOSABLE) != 0 {
                return Err(format!("a packet with flags {flags:#x}"));
            }
            if keys.is_empty() && flags & KEY == 0 {
                return Err("the first packet is no key frame".into());
            }
            if flags & KEY != 0 {
                keys.push(pts);
            }
            if flags & DISCARD == 0 {
                frames.push(pts);
            }
        }
        frames.sort_unstable();
        let rising = |times: &[i64]| times.windows(2).all(|two| two[0] < two[1]);
        if !rising(&frames) || !rising(&keys) {
            return Err("timestamps repeat, or those of key frames fall".into());
        }
        match (keys.first(), frames.first()) {
            (Some(key), Some(frame)) if key <= frame => {}
            _ => return Err("frames precede the first key frame".into()),
        }
        let time_base = (f64::from(time_base.0), f64::from(time_base.1));
        Ok(Self { frames, keys, time_base, size })
    }

    /// Position of the first frame from which frame `index` can be decoded: that of the last key frame before it.
    pub(crate) fn start(&self, index: usize) -> usize {
        let Some(pts) = self.frames.get(index) else { return 0 };
        let behind = self.keys.partition_point(|key| key <= pts);
        behind.checked_sub(1).map_or(0, |key| self.position(self.keys[key]))
    }

    /// Position of the first frame that is not before a timestamp.
    pub(crate) fn position(&self, pts: i64) -> usize {
        self.frames.partition_point(|frame| *frame < pts)
    }
}

/// Presentation timestamp and flags of a packet.
fn packet(line: &str) -> Option<(i64, u32)> {
    let mut fields = line.split(',').map(str::trim);
    let pts = fields.nth(2)?.parse().ok()?;
    let flags = match fields.nth(3) {
        // Side data follows the flags, as `S=1`.
        Some(field) if field.starts_with("F=") => {
            u32::from_str_radix(field.strip_prefix("F=0x")?, 16).ok()?
        }
        _ => KEY,
    };
    Some((pts, flags))
}

fn pair<T: std::str::FromStr>(text: &str, between: char) -> Option<(T, T)> {
    let (first, second) = text.trim().split_once(between)?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "#extradata 0:       45, 0x2a320e38\n#software: Lavf61.1.100\n#tb 0: 1/12800\n\
                          #media_type 0: video\n#codec_id 0: h264\n#dimensions 0: 640x360\n#sar 0: 1/1\n";

    fn parse(packets: &[(i64, &str)]) -> Result<PacketIndex, String> {
        let line = |(pts, rest): &(i64, &str)| {
            format!("0,      -1024, {pts:>10},      512,     8191, 0x26{rest}\n")
        };
        PacketIndex::parse(&(HEADER.to_owned() + &packets.iter().map(line).collect::<String>()))
    }

    #[test]
    fn frames_are_in_the_order_of_showing() {
        let index = parse(&[
            (0, ""),
            (1024, ", F=0x0"),
            (512, ", F=0x10"),
            (2048, ", S=1, 8, 0x1"),
            (1536, ", F=0x0"),
        ]);
        let index = index.unwrap();
        assert_eq!(
            (index.frames.as_slice(), index.keys.as_slice()),
            (&[0, 512, 1024, 1536, 2048][..], &[0, 2048][..])
        );
        assert_eq!((index.time_base, index.size), ((1.0, 12800.0), (640, 360)));
        assert_eq!([0, 3, 4].map(|frame| index.start(frame)), [0, 0, 4], "an open GOP's leading frame");
    }

    #[test]
    fn frames_before_an_edit_are_not_shown() {
        let index = parse(&[(0, ", F=0x5"), (512, ", F=0x4"), (1024, ", F=0x0"), (1536, "")]).unwrap();
        assert_eq!(index.frames, [1024, 1536]);
        assert_eq!([0, 1].map(|frame| index.start(frame)), [0, 1]);
    }

    #[test]
    fn what_is_not_certain_is_refused() {
        let reason = |packets: &[(i64, &str)]| parse(packets).unwrap_err();
        assert!(reason(&[(0, ", F=0x0")]).contains("no key frame"));
        assert!(reason(&[(0, ""), (0, ", F=0x0")]).contains("repeat"));
        assert!(reason(&[(512, ""), (0, ", F=0x0")]).contains("precede"));
        assert!(reason(&[(0, ""), (512, ", F=0x2")]).contains("flags 0x2"));
        assert!(reason(&[]).contains("precede"));
        let without = HEADER.to_owned() + "0, 0, NOPTS, 512, 8191, 0x26\n";
        assert!(PacketIndex::parse(&without).unwrap_err().contains("without a timestamp"));
        assert!(PacketIndex::parse(&HEADER.replace("h264", "vp8")).unwrap_err().contains("`vp8`"));
    }
}
