//! Frames as PNG files, for trainers that read images only.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use isr_api::{Fingerprint, Frames};

use crate::export::error::ExportError;
use crate::export::pairs::Pair;

/// Output folder and frame source of images.
pub struct Pictures<'a> {
    /// Output folder; files are `DIR/VIDEO/00.png` and so on.
    pub dir: &'a Path,
    /// Decodes the video at a path, by its name in the run and the iteration that saw it; `None` where it cannot be read.
    pub frames: &'a dyn Fn(&Path, &str, u32) -> Option<Frames>,
    /// Whether each iteration saw other frames of a video, so that each has a folder of its own.
    pub by_iteration: bool,
}

/// Paths of images by video, and iteration where each saw other frames; `None` for an unreadable video.
#[derive(Default)]
pub(crate) struct Written(HashMap<(String, Option<u32>), Option<Vec<String>>>);

impl Written {
    /// Paths of the pictures of a pair's video.
    pub(crate) fn of(&self, pictures: &Pictures<'_>, pair: &Pair) -> Option<&[String]> {
        self.0.get(&pictures.key(pair))?.as_deref()
    }
}

impl Pictures<'_> {
    /// Writes the frames of the pairs' videos; finds the absolute paths of their pictures, in order.
    pub(crate) fn write<'p>(&self, pairs: impl Iterator<Item = &'p Pair>) -> Result<Written, ExportError> {
        let mut written = Written::default();
        for pair in pairs {
            if let Entry::Vacant(entry) = written.0.entry(self.key(pair)) {
                let frames = (self.frames)(Path::new(&pair.video), &pair.video_in_run, pair.iteration);
                let (video, iteration) = entry.key();
                let paths = frames.map(|frames| self.write_one(video, *iteration, &frames)).transpose()?;
                entry.insert(paths);
            }
        }
        Ok(written)
    }

    fn key(&self, pair: &Pair) -> (String, Option<u32>) {
        (pair.video.clone(), self.by_iteration.then_some(pair.iteration))
    }

    fn write_one(
        &self,
        video: &str,
        iteration: Option<u32>,
        frames: &Frames,
    ) -> Result<Vec<String>, ExportError> {
        let stem = Path::new(video).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Videos of one name in two folders are two.
        let tail = Fingerprint::of(video).as_str()[..8].to_owned();
        let name = match iteration {
            Some(iteration) => format!("{stem}-{tail}-t{iteration}"),
            None => format!("{stem}-{tail}"),
        };
        let folder = std::path::absolute(self.dir).unwrap_or(self.dir.to_owned()).join(name);
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
