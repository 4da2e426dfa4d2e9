//! Frames as a video file without loss: PNG pictures at a constant rate in AVI, which FFmpeg reads as RGB.
//!
//! The layout is that of RIFF AVI 1.0 with an index: headers (`hdrl`), a chunk a frame (`movi`), their places (`idx1`).

use std::num::TryFromIntError;

/// Microseconds a second, in which the time of a frame is told.
const CLOCK: u32 = 1_000_000;

/// The stream's four-character code: FFmpeg's `png` decoder.
const CODEC: &[u8; 4] = b"MPNG";

/// The name of a frame's chunk: video data of stream 0.
const FRAME: &[u8; 4] = b"00dc";

/// A frame needs no other one, and the file has an index.
const KEY_FRAME: u32 = 0x10;
const HAS_INDEX: u32 = 0x10;

/// Returns a file that shows each of the pictures, encoded as PNG, for `interval` microseconds.
///
/// # Errors
/// For sizes beyond those of the format, 2 or 4 GiB.
pub(crate) fn file(
    width: u32,
    height: u32,
    interval: u32,
    pictures: &[Vec<u8>],
) -> Result<Vec<u8>, TryFromIntError> {
    let frames = u32::try_from(pictures.len())?;
    let largest = u32::try_from(pictures.iter().map(Vec::len).max().unwrap_or(0))?;
    let (mut movi, mut index) = (b"movi".to_vec(), Vec::new());
    for picture in pictures {
        index.extend(FRAME);
        index.extend(numbers(&[KEY_FRAME, u32::try_from(movi.len())?, u32::try_from(picture.len())?]));
        movi.extend(chunk(FRAME, picture)?);
    }
    // Of frames: interval, bytes a second, padding, flags, number, number ahead, streams, largest; size; four reserved.
    let main = numbers(&[interval, 0, 0, HAS_INDEX, frames, 0, 1, largest, width, height, 0, 0, 0, 0]);
    let mut stream = b"vids".to_vec();
    stream.extend(CODEC);
    // Flags, priority and language, frames ahead, scale, rate, start, length, largest, quality, size of a sample.
    stream.extend(numbers(&[0, 0, 0, interval, CLOCK, 0, frames, largest, u32::MAX, 0]));
    for side in [0, 0, width, height] {
        stream.extend(u16::try_from(side)?.to_le_bytes());
    }
    let mut format = numbers(&[40, width, height]);
    // Planes, bits a pixel.
    format.extend([1, 0, 24, 0]);
    format.extend(CODEC);
    format.extend(numbers(&[0, 0, 0, 0, 0]));

    let mut strl = b"strl".to_vec();
    strl.extend(chunk(b"strh", &stream)?);
    strl.extend(chunk(b"strf", &format)?);
    let mut hdrl = b"hdrl".to_vec();
    hdrl.extend(chunk(b"avih", &main)?);
    hdrl.extend(chunk(b"LIST", &strl)?);
    let mut riff = b"AVI ".to_vec();
    riff.extend(chunk(b"LIST", &hdrl)?);
    riff.extend(chunk(b"LIST", &movi)?);
    riff.extend(chunk(b"idx1", &index)?);
    chunk(b"RIFF", &riff)
}

fn numbers(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A chunk of RIFF: its name, its size, its content, and a byte that makes the size even.
fn chunk(name: &[u8; 4], content: &[u8]) -> Result<Vec<u8>, TryFromIntError> {
    let mut chunk = name.to_vec();
    chunk.extend(u32::try_from(content.len())?.to_le_bytes());
    chunk.extend(content);
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use isr_api::Frames;
    use isr_chat::png;

    use super::*;

    fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(isr_ffmpeg::locate().unwrap()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn ffmpeg_reads_the_same_pixels_at_the_same_times() {
        let (width, height, count) = (7, 5, 4);
        let rgb: Vec<u8> = (0..3 * width * height * count).map(|at| (at * at % 251) as u8).collect();
        let times = (0..count).map(|index| f64::from(index) * 0.4).collect();
        let frames = Frames::new(width, height, rgb.clone(), times).unwrap();
        let pictures: Vec<_> = (0..frames.len()).map(|index| png(&frames, index).unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.avi");
        fs::write(&path, file(width, height, 400_000, &pictures).unwrap()).unwrap();
        let path = path.to_str().unwrap();
        let read = |format: &[&str]| ffmpeg(&[&["-v", "error", "-i", path], format].concat());
        assert_eq!(read(&["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]), rgb);
        let listed = String::from_utf8(read(&["-f", "framehash", "-"])).unwrap();
        assert!(listed.contains("#tb 0: 2/5"), "{listed}");
        let lines = listed.lines().filter(|line| !line.starts_with('#'));
        let times: Vec<u32> =
            lines.map(|line| line.split(',').nth(2).unwrap().trim().parse().unwrap()).collect();
        assert_eq!(times, [0, 1, 2, 3]);
    }

    #[test]
    fn a_side_that_does_not_fit_is_an_error() {
        assert!(file(70_000, 5, 1, &[vec![0; 3]]).is_err());
    }
}
