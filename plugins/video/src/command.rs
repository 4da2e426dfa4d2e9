//! Arguments of ffmpeg.

use std::ffi::OsString;

use crate::config::FfmpegConfig;
use crate::part::Part;

/// Whitelist of containers. Excludes playlists (HLS, DASH, concat, SDP), which refer to other files, image
/// patterns, devices, and text that ffmpeg renders as video. `webp_pipe` reads still WebP images.
const CONTAINERS: &str = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,gif,apng,ogg,rm,ivf,nut,dv,\
                          mxf,wtv,m4v,h264,hevc,obu,mjpeg,yuv4mpegpipe,webp_pipe";

/// Containers that list their packets, so that frames can be sought in them.
const SEEKABLE: &str = "mov,matroska,webm";

/// Scaler flags for exact rounding and bit-identical pixels on all processors.
const SCALER: &str = "flags=bicubic+accurate_rnd+full_chroma_int+bitexact";

/// Purpose of a run of ffmpeg.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pass<'a> {
    /// Writes all frames.
    All,
    /// Writes no frames, only a log line for each.
    Count,
    /// Writes the frames with these indices, ascending.
    Pick(&'a [usize]),
    /// Writes no frames, but a log line for each packet and for each decoded frame.
    Trial,
    /// Decodes nothing, and writes a line for each packet.
    Index,
    /// Writes the frames with these timestamps, rising, decoded from the key frame before a time in seconds on, or from
    /// the start; and a log line for each decoded frame.
    Stretch { from: Option<f64>, ticks: &'a [i64] },
}

/// What becomes of errors in a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Care {
    /// The first ends the pass.
    Strict,
    /// They are passed over.
    Lenient,
}

/// Arguments of one pass over a file.
pub(crate) fn arguments(
    config: &FfmpegConfig,
    part: Part<'_>,
    pass: Pass<'_>,
    care: Care,
) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    add(&["-hide_banner", "-nostats", "-loglevel", "repeat+level+info", "-filter_threads", "1"]);
    match (pass, care) {
        // Errors of the decoder are passed over, those of the container are not.
        (Pass::Trial, _) => add(&["-debug_ts", "-err_detect", "explode", "-err_detect:v", "0"]),
        (_, Care::Strict) => add(&["-xerror", "-err_detect", "explode"]),
        (_, Care::Lenient) => {}
    }
    let sought = matches!(pass, Pass::Index | Pass::Stretch { .. });
    let containers = if sought { SEEKABLE } else { CONTAINERS };
    add(&["-protocol_whitelist", "file", "-format_whitelist", containers]);
    add(&["-threads", "1", "-max_pixels", &config.max_pixels.to_string()]);
    if sought {
        add(&["-copyts"]);
    }
    if let Pass::Stretch { from: Some(seconds), .. } = pass {
        add(&["-noaccurate_seek", "-seek_timestamp", "1", "-ss", &format!("{seconds:.6}")]);
    }
    add(&["-i"]);
    // The prefix makes names with a colon or a leading dash file names.
    let mut input = OsString::from("file:");
    input.push(part.path);
    args.push(input);
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    // V excludes cover images.
    add(&["-map", "0:V:0"]);
    if pass == Pass::Index {
        add(&["-c", "copy", "-copyinkf", "-copytb", "1", "-f", "framecrc", "pipe:1"]);
        return args;
    }
    add(&["-vf", &filters(config, part, pass), "-fps_mode", "passthrough", "-threads", "1"]);
    match pass {
        Pass::Count | Pass::Trial | Pass::Index => add(&["-f", "null", "-"]),
        Pass::All | Pass::Pick(_) | Pass::Stretch { .. } => add(&["-f", "rawvideo", "pipe:1"]),
    }
    args
}

fn filters(config: &FfmpegConfig, part: Part<'_>, pass: Pass<'_>) -> String {
    let mut chain = Vec::new();
    if let (Some(seconds), false) = (part.horizon(config), matches!(pass, Pass::Stretch { .. })) {
        chain.push(format!("trim=duration={seconds:.6}"));
    }
    if let Pass::Pick(indices) = pass {
        let end = indices.last().map_or(0, |last| last + 1);
        let terms: Vec<_> = indices.iter().map(|index| format!("eq(n,{index})")).collect();
        chain.push(format!("trim=end_frame={end}"));
        chain.push(format!("select='{}'", terms.join("+")));
    }
    if let Pass::Stretch { ticks, .. } = pass {
        // The first filter, by which the lines of decoded frames are told from those of written ones.
        chain.push("showinfo=checksum=0".into());
        chain.push(format!("trim=end_pts={}", ticks.last().map_or(0, |last| last + 1)));
        let terms: Vec<_> = ticks.iter().map(|tick| format!("eq(pts,{tick})")).collect();
        chain.push(format!("select='{}'", terms.join("+")));
    }
    if matches!(pass, Pass::All | Pass::Pick(_) | Pass::Stretch { .. }) {
        chain.push(format!("scale={}{SCALER}", size(config.max_short_side)));
        chain.push("format=rgb24".into());
    }
    if pass != Pass::Trial {
        // Of data beside the frames, a showinfo line would be written in many pieces.
        chain.push("sidedata=mode=delete".into());
        // Checksums of all planes would dominate the run time.
        chain.push("showinfo=checksum=0".into());
    }
    // The writer complains of timestamps that do not rise, such as those of joined files. An hour a frame is apart
    // in any time base.
    chain.push("setpts=N*3600/TB".into());
    chain.join(",")
}

/// Width and height of the scale filter: only scales down, and keeps the aspect ratio.
fn size(max_short_side: Option<u32>) -> String {
    max_short_side.map_or_else(String::new, |side| {
        format!("w='if(lte(iw,ih),min(iw,{side}),-1)':h='if(lte(iw,ih),-1,min(ih,{side}))':")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::FrameSampling;

    fn part() -> Part<'static> {
        Part { path: Path::new("-a:b.mp4"), span: None, draw: None }
    }

    fn text(config: &FfmpegConfig, pass: Pass<'_>) -> String {
        let care = if config.allow_damaged { Care::Lenient } else { Care::Strict };
        let words: Vec<_> = arguments(config, part(), pass, care)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn only_the_named_file_is_opened() {
        let all = text(&FfmpegConfig::default(), Pass::All);
        assert!(all.contains("-protocol_whitelist file -format_whitelist mov,"), "{all}");
        assert!(all.contains("-i file:-a:b.mp4 "), "{all}");
        assert!(["hls", "concat", "dash", "image2", "lavfi"].iter().all(|name| !CONTAINERS.contains(name)));
    }

    #[test]
    fn picking_stops_after_the_last_frame() {
        let sampling = FrameSampling::FirstSeconds { seconds: 2.5, frames: 2 };
        let config = FfmpegConfig { sampling, max_short_side: Some(224), ..FfmpegConfig::default() };
        let filters = filters(&config, part(), Pass::Pick(&[3, 9]));
        assert!(
            filters.starts_with(
                "trim=duration=2.500000,trim=end_frame=10,select='eq(n,3)+eq(n,9)',\
                 scale=w='if(lte(iw,ih),min(iw,224),-1)':"
            ),
            "{filters}"
        );
    }

    #[test]
    fn a_stretch_is_sought_by_time_and_chosen_by_timestamps() {
        let config = FfmpegConfig::default();
        let stretch = text(&config, Pass::Stretch { from: Some(1.5), ticks: &[-512, 1024] });
        assert!(
            stretch.contains("-copyts -noaccurate_seek -seek_timestamp 1 -ss 1.500000 -i file:-a:b.mp4"),
            "{stretch}"
        );
        let chosen = "-vf showinfo=checksum=0,trim=end_pts=1025,select='eq(pts,-512)+eq(pts,1024)',scale=";
        assert!(stretch.contains(chosen), "{stretch}");
        assert!(!text(&config, Pass::Stretch { from: None, ticks: &[0] }).contains("-ss"));
        let index = text(&config, Pass::Index);
        assert!(index.contains("-format_whitelist mov,matroska,webm") && !index.contains("-vf"), "{index}");
    }

    #[test]
    fn damage_is_an_error_unless_it_is_allowed() {
        let lenient = FfmpegConfig { allow_damaged: true, ..FfmpegConfig::default() };
        assert!(text(&FfmpegConfig::default(), Pass::Count).contains("-xerror"));
        assert!(!text(&lenient, Pass::Count).contains("-xerror"));
    }
}
