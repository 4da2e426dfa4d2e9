//! Frames as PNG images in a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isr_api::Frames;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ChatError;

/// Frames of the video that a request contains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FramesConfig {
    /// Number of frames, at least 1, evenly spaced over the frames that the policy sees; all of them if there
    /// are fewer. Sent as PNG at their own resolution. Default 8.
    pub count: usize,
}

impl Default for FramesConfig {
    fn default() -> Self {
        Self { count: 8 }
    }
}

/// Encodes evenly spaced frames as `data:` URLs of PNG.
///
/// # Errors
/// [`ChatError::Picture`] for a frame whose pixels are missing.
pub fn data_urls(frames: &Frames, count: usize) -> Result<Vec<String>, ChatError> {
    chosen(frames.len(), count).into_iter().map(|index| data_url(frames, index)).collect()
}

/// Evenly spaced indices from first to last; the middle one for a count of 1.
fn chosen(length: usize, count: usize) -> Vec<usize> {
    match (length, count.min(length)) {
        (0, _) | (_, 0) => Vec::new(),
        (length, 1) => vec![(length - 1) / 2],
        (length, count) => (0..count).map(|index| index * (length - 1) / (count - 1)).collect(),
    }
}

fn data_url(frames: &Frames, index: usize) -> Result<String, ChatError> {
    Ok(format!("data:image/png;base64,{}", png_base64(frames, index)?))
}

/// Encodes a frame as PNG, in base64.
///
/// # Errors
/// As [`data_urls`].
pub fn png_base64(frames: &Frames, index: usize) -> Result<String, ChatError> {
    Ok(STANDARD.encode(png(frames, index)?))
}

/// Encodes a frame as PNG.
///
/// # Errors
/// As [`data_urls`].
pub fn png(frames: &Frames, index: usize) -> Result<Vec<u8>, ChatError> {
    let error = |reason: String| ChatError::Picture { index, reason };
    let rgb = frames.frame(index).ok_or_else(|| error("its pixels are missing".to_owned()))?;
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, frames.width, frames.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|reason| error(reason.to_string()))?;
    writer.write_image_data(rgb).map_err(|reason| error(reason.to_string()))?;
    writer.finish().map_err(|reason| error(reason.to_string()))?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    #[test]
    fn frames_are_spread_from_first_to_last() {
        assert_eq!(chosen(16, 4), [0, 5, 10, 15]);
        assert_eq!(chosen(16, 1), [7]);
        assert_eq!(chosen(3, 8), [0, 1, 2]);
        assert!(chosen(0, 8).is_empty());
    }

    #[test]
    fn a_picture_decodes_to_the_same_pixels() {
        let rgb: Vec<u8> = (0..36).collect();
        let frames = Frames::new(3, 2, rgb.clone(), vec![0.0, 1.0]).unwrap();
        let urls = data_urls(&frames, 2).unwrap();
        let png = STANDARD.decode(urls[1].strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, rgb[18..]);
    }

    #[test]
    fn missing_pixels_are_an_error() {
        let frames = Frames { width: 3, height: 2, rgb: vec![0; 17], timestamps: vec![0.0], duration: 0.0 };
        assert!(data_urls(&frames, 1).unwrap_err().to_string().contains("pixels are missing"));
    }
}
