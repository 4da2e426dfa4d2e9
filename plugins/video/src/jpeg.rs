//! Decoding of JPEG, with the colours of libjpeg and Pillow.
//!
//! The segments of a file are walked through before it is decoded. This tells a truncated picture, which decoders
//! fill with gray, from one with data behind its end, such as the videos of motion photos. It also leaves the
//! choice of the colour space to the rules of libjpeg (`default_decompress_parms` in `jdapimin.c`), whatever
//! markers stand where.

use std::io::{Read, Seek, SeekFrom};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
const ADOBE: u8 = 0xee;

/// Whether a marker begins a frame header: `SOF0` to `SOF15` without `DHT`, `JPG` and `DAC`.
fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

/// Whether a marker stands alone, without a length: `TEM`, `RST0` to `RST7` and `SOI`.
fn is_bare(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xd0..=0xd8)
}

/// Width and height from the frame header. Skips the segments before it without reading them.
pub(crate) fn size(file: &mut (impl Read + Seek)) -> Result<(u32, u32), String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the frame header is missing".to_owned(),
        _ => error.to_string(),
    };
    let mut read = |count: usize, skip: i64| -> Result<[u8; 6], String> {
        let mut bytes = [0; 6];
        file.seek(SeekFrom::Current(skip)).map_err(failed)?;
        file.read_exact(&mut bytes[..count]).map_err(failed)?;
        Ok(bytes)
    };
    let mut skip = 2;
    loop {
        while read(1, skip)?[0] != 0xff {
            skip = 0;
        }
        let mut marker = 0xff;
        while marker == 0xff {
            marker = read(1, 0)?[0];
        }
        skip = 0;
        if is_bare(marker) || marker == 0 {
            continue;
        }
        if matches!(marker, END | SCAN) {
            return Err("the frame header is missing".to_owned());
        }
        let bytes = read(2, 0)?;
        let length = i64::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        if !is_frame(marker) {
            skip = (length - 2).max(0);
            continue;
        }
        let [bits, h1, h0, w1, w0, _] = read(6, 0)?;
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        return match (bits, width, height) {
            (8, 1.., 1..) => Ok((width.into(), height.into())),
            (8, ..) => Err("its header says that it has no pixels".to_owned()),
            _ => Err(format!("it has {bits} bits a sample; only 8 are read")),
        };
    }
}

/// What a walk through a file has found.
struct Picture {
    /// The first picture without its metadata: tables, frame header and scans.
    bytes: Vec<u8>,
    /// Whether it has its end marker.
    complete: bool,
    is_jfif: bool,
    /// Colour transform of an Adobe marker.
    adobe: Option<u8>,
    /// Ids of the colour components.
    components: Vec<u8>,
}

impl Picture {
    fn read(bytes: &[u8]) -> Self {
        let mut found = Self {
            bytes: bytes.get(..2).unwrap_or_default().to_vec(),
            complete: false,
            is_jfif: false,
            adobe: None,
            components: Vec::new(),
        };
        let mut rest = bytes.get(2..).unwrap_or_default();
        while let Some(after) = found.segment(rest) {
            rest = after;
        }
        found
    }

    /// Takes the next segment, with the data of a scan; returns the bytes behind it, or `None` at the end.
    fn segment<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let start = bytes.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
        let (marker, rest) = (bytes[start + 1], &bytes[start + 2..]);
        if marker == END {
            self.bytes.extend([0xff, END]);
            self.complete = true;
            return None;
        }
        if is_bare(marker) {
            return Some(rest);
        }
        let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        let payload = rest.get(2..length)?;
        let mut after = &rest[length..];
        match marker {
            0xe0 => self.is_jfif |= payload.starts_with(b"JFIF\0"),
            ADOBE if payload.starts_with(b"Adobe") => self.adobe = payload.get(11).copied().or(self.adobe),
            // Metadata and comments.
            0xe1..=0xef | 0xfe => {}
            _ => {
                if is_frame(marker) {
                    self.components =
                        payload.get(6..).unwrap_or_default().chunks(3).map(|part| part[0]).collect();
                }
                if marker == SCAN {
                    after = &after[scan_length(after)..];
                }
                let end = bytes.len() - after.len();
                self.bytes.extend_from_slice(&bytes[start..end]);
            }
        }
        Some(after)
    }

    /// Colour transform by libjpeg's rules, as in an Adobe marker: 0 none, 1 YCbCr, 2 YCCK.
    fn transform(&self) -> u8 {
        match (self.components.len(), self.adobe) {
            (4, None | Some(0)) => 0,
            (4, Some(_)) => 2,
            (3, Some(0)) if !self.is_jfif => 0,
            (3, None) if !self.is_jfif && self.components == *b"RGB" => 0,
            _ => 1,
        }
    }

    /// The picture with the marker that says its colour transform.
    fn marked(&self) -> Vec<u8> {
        let (start, rest) = self.bytes.split_at(self.bytes.len().min(2));
        // The decoder cannot transform four components.
        let transform = match self.components.len() {
            0..3 => return self.bytes.clone(),
            3 => self.transform(),
            _ => 0,
        };
        let marker = [0xff, ADOBE, 0, 14, b'A', b'd', b'o', b'b', b'e', 0, 100, 0, 0, 0, 0, transform];
        [start, &marker, rest].concat()
    }
}

/// Length of the data of a scan: up to a marker that is not a restart.
fn scan_length(bytes: &[u8]) -> usize {
    let ends = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff);
    bytes.windows(2).position(ends).unwrap_or(bytes.len())
}

/// Decodes to `u8` RGB of shape `[height, width, 3]`. With `lenient`, accepts the decodable part.
pub(crate) fn decode(bytes: &[u8], lenient: bool) -> Result<Vec<u8>, String> {
    let picture = Picture::read(bytes);
    if !lenient && !picture.complete {
        return Err("the end of the image is missing".into());
    }
    let inks = picture.components.len() == 4;
    let colours = if inks { ColorSpace::CMYK } else { ColorSpace::RGB };
    let options = DecoderOptions::default().set_strict_mode(!lenient).jpeg_set_out_colorspace(colours);
    let marked = picture.marked();
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&marked), options);
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    Ok(match (inks, picture.transform()) {
        (false, _) => pixels,
        (true, 2) => pixels.chunks_exact(4).flat_map(|pixel| rgb_of_inks(&inks_of_ycck(pixel))).collect(),
        (true, _) => pixels.chunks_exact(4).flat_map(rgb_of_inks).collect(),
    })
}

/// CMYK of YCCK, by libjpeg's formula with 16 bits behind the point (`ycck_cmyk_convert` in `jdcolor.c`).
fn inks_of_ycck(pixel: &[u8]) -> [u8; 4] {
    const HALF: i32 = 1 << 15;
    let [y, blue, red] = [pixel[0].into(), i32::from(pixel[1]) - 128, i32::from(pixel[2]) - 128];
    let ink = |light: i32| u8::try_from((255 - light).clamp(0, 255)).unwrap_or(u8::MAX);
    [
        ink(y + ((91881 * red + HALF) >> 16)),
        ink(y + ((-22554 * blue - 46802 * red + HALF) >> 16)),
        ink(y + ((116_130 * blue + HALF) >> 16)),
        pixel[3],
    ]
}

/// RGB of inverted CMYK, as Adobe's programs write it, by Pillow's formula (`cmyk2rgb` in `Convert.c`).
fn rgb_of_inks(inks: &[u8]) -> [u8; 3] {
    let white = u32::from(inks[3]);
    [0, 1, 2].map(|index| {
        let product = (255 - u32::from(inks[index])) * white + 128;
        let ink = (product + (product >> 8)) >> 8;
        u8::try_from(white.saturating_sub(ink)).unwrap_or(u8::MAX)
    })
}
