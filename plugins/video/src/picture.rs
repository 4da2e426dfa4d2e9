//! Reading of a picture, a PNG or JPEG file, as a video of one frame.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use isr_api::Frames;

use crate::config::FfmpegConfig;
use crate::error::VideoError;
use crate::image::{self, Encoded};

/// Bytes by which both formats are told.
const START: u64 = 8;

/// Endings of pictures, in any case. Others may be streams of JPEGs.
const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "jpe", "jfif"];

/// Whether a file has the name and the first bytes of a PNG or JPEG.
pub(crate) fn is_picture(path: &Path) -> Result<bool, VideoError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if !EXTENSIONS.contains(&extension.as_str()) {
        return Ok(false);
    }
    let failed = |source| VideoError::io(path, source);
    let mut start = Vec::new();
    File::open(path).map_err(failed)?.take(START).read_to_end(&mut start).map_err(failed)?;
    Ok(Encoded::new(&start).is_ok())
}

/// Decodes a picture. Blocks.
pub(crate) fn read(config: &FfmpegConfig, path: &Path) -> Result<Frames, VideoError> {
    let file = File::open(path).map_err(|source| VideoError::io(path, source))?;
    let damaged = |reason: String| VideoError::damaged(path, reason);
    let (width, height) = image::size(&mut BufReader::new(file)).map_err(damaged)?;
    if u64::from(width) * u64::from(height) > config.max_pixels {
        return Err(VideoError::TooManyPixels { path: path.to_owned(), limit: config.max_pixels });
    }
    let bytes = std::fs::read(path).map_err(|source| VideoError::io(path, source))?;
    let rgb = Encoded::new(&bytes).and_then(|image| image.rgb(config.allow_damaged)).map_err(damaged)?;
    if rgb.len() != width as usize * height as usize * 3 {
        return Err(VideoError::damaged(path, "the pixels do not match the header"));
    }
    Ok(Frames { width, height, rgb, timestamps: vec![0.0], duration: 0.0 })
}
