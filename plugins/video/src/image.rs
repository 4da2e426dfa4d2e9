//! In-process decoding of PNG and JPEG (`jpeg.rs`).
//!
//! Both decoders are memory-safe Rust, so they need no process of their own, which would cost a hundred times
//! the decoding of an image.

use std::io::{BufRead, Cursor, Read, Seek};

use crate::jpeg;

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Bytes of an image file, with the format detected from the first bytes, not from the name.
pub(crate) enum Encoded<'a> {
    Png(&'a [u8]),
    Jpeg(&'a [u8]),
}

impl<'a> Encoded<'a> {
    /// Detects the format.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, String> {
        match bytes {
            [] => Err("the file is empty".into()),
            _ if bytes.starts_with(PNG_SIGNATURE) => Ok(Self::Png(bytes)),
            [0xff, 0xd8, ..] => Ok(Self::Jpeg(bytes)),
            _ => Err("neither PNG nor JPEG".into()),
        }
    }

    /// Decodes to `u8` RGB of shape `[height, width, 3]`, like `PIL.Image.open(path).convert("RGB")`: drops
    /// alpha, reduces 16 bits to 8, and ignores EXIF rotation. Check [`size`] first.
    ///
    /// With `lenient`, accepts the decodable part of a damaged JPEG.
    pub(crate) fn rgb(&self, lenient: bool) -> Result<Vec<u8>, String> {
        match self {
            Self::Png(bytes) => decode_png(bytes),
            Self::Jpeg(bytes) => jpeg::decode(bytes, lenient),
        }
    }
}

/// Width and height in pixels. Reads no more of a file than its header.
pub(crate) fn size(file: &mut (impl BufRead + Seek)) -> Result<(u32, u32), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut start = Vec::new();
    file.by_ref().take(PNG_SIGNATURE.len() as u64).read_to_end(&mut start).map_err(failed)?;
    file.rewind().map_err(failed)?;
    match Encoded::new(&start)? {
        Encoded::Png(_) => {
            let reader = png::Decoder::new(file).read_info().map_err(|error| error.to_string())?;
            Ok((reader.info().width, reader.info().height))
        }
        Encoded::Jpeg(_) => jpeg::size(file),
    }
}

fn decode_png(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let shape = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
    pixels.truncate(shape.buffer_size());
    Ok(match shape.color_type {
        png::ColorType::Grayscale => gray_to_rgb(&pixels, 1),
        png::ColorType::GrayscaleAlpha => gray_to_rgb(&pixels, 2),
        png::ColorType::Rgba => {
            pixels.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
        }
        png::ColorType::Rgb | png::ColorType::Indexed => pixels,
    })
}

/// Repeats the first of every `channels` values three times.
fn gray_to_rgb(pixels: &[u8], channels: usize) -> Vec<u8> {
    pixels.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(color: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    #[test]
    fn every_kind_of_png_becomes_rgb() {
        use png::BitDepth::{Eight, One, Sixteen};
        use png::ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
        let rgb =
            |color, depth, data: &[u8]| Encoded::new(&png(color, depth, data)).unwrap().rgb(false).unwrap();
        assert_eq!(rgb(Rgb, Eight, &[1, 2, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(rgb(Rgba, Eight, &[1, 2, 3, 0, 4, 5, 6, 9]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(rgb(Grayscale, Eight, &[7, 8]), [7, 7, 7, 8, 8, 8]);
        assert_eq!(rgb(Grayscale, One, &[0b0100_0000]), [0, 0, 0, 255, 255, 255]);
        assert_eq!(rgb(GrayscaleAlpha, Eight, &[7, 0, 8, 0]), [7, 7, 7, 8, 8, 8]);
        assert_eq!(rgb(Grayscale, Sixteen, &[7, 1, 8, 1]), [7, 7, 7, 8, 8, 8]);
    }

    #[test]
    fn sizes_come_from_the_header() {
        let bytes = png(png::ColorType::Rgb, png::BitDepth::Eight, &[0; 6]);
        assert_eq!(size(&mut Cursor::new(&bytes[..60])).unwrap(), (2, 1));
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(Encoded::new(b"").is_err_and(|reason| reason.contains("empty")));
        assert!(Encoded::new(b"GIF89a").is_err());
        let bytes = png(png::ColorType::Rgb, png::BitDepth::Eight, &[0; 6]);
        assert!(Encoded::new(&bytes[..bytes.len() - 30]).unwrap().rgb(false).is_err(), "cut");
        assert!(size(&mut Cursor::new(b"\xff\xd8\xff\xe0garbage")).is_err());
    }
}
