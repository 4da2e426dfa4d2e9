//! Frames as PNG files, for trainers that read images only.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use isr_api::{Fingerprint, Frames};

use crate::export::error::ExportError;

/// Output folder and frame source of images.
pub struct Pictures<'a> {
    /// Output folder; files are `DIR/VIDEO/00.png` and so on.
    pub dir: &'a Path,
    /// Decodes the video at a path; `None` where it cannot be read.
    pub frames: &'a dyn Fn(&str) -> Option<Frames>,
}

/// Paths of images by video; `None` for an unreadable video.
pub(crate) type Written = HashMap<String, Option<Vec<String>>>;

impl Pictures<'_> {
    /// Writes the frames of each video; returns the absolute paths of its pictures, in order.
    pub(crate) fn write<'p>(&self, videos: impl Iterator<Item = &'p str>) -> Result<Written, ExportError> {
        let mut written = Written::new();
        for video in videos {
            if !written.contains_key(video) {
                let frames = (self.frames)(video);
                let paths = frames.map(|frames| self.write_one(video, &frames)).transpose()?;
                written.insert(video.to_owned(), paths);
            }
        }
        Ok(written)
    }

    fn write_one(&self, video: &str, frames: &Frames) -> Result<Vec<String>, ExportError> {
        let stem = Path::new(video).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Videos of one name in two folders are two.
        let tail = Fingerprint::of(video).as_str()[..8].to_owned();
        let folder =
            std::path::absolute(self.dir).unwrap_or(self.dir.to_owned()).join(format!("{stem}-{tail}"));
        fs::create_dir_all(&folder).map_err(|source| ExportError::io(&folder, source))?;
        let picture = |index: usize| {
            let path = folder.join(format!("{index:02}.png"));
            let rgb = frames.frame(index).unwrap_or_default();
            encode(&path, frames, rgb).map_err(|source| ExportError::io(&path, source))?;
            Ok(isr_api::video_key(&path))
        };
        (0..frames.len()).map(picture).collect()
    }
}

/// Writes one frame: 8-bit RGB.
fn encode(path: &PathBuf, frames: &Frames, rgb: &[u8]) -> std::io::Result<()> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), frames.width, frames.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    Ok(writer.finish()?)
}
