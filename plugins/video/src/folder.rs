//! Reading of folders with one image file per frame.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use isr_api::Frames;

use crate::clip::MOST_BYTES;
use crate::clock::Clock;
use crate::config::FfmpegConfig;
use crate::error::VideoError;
use crate::image::{self, Encoded};
use crate::log::MOST_COUNTED;
use crate::order::sort_by_time;
use crate::part::Part;

/// Extensions of image files, in any case.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Decodes the sampled frames of a folder. Blocks.
///
/// Reads the headers of all images, since images of different sizes are no video; decodes only the sampled
/// ones.
pub(crate) fn read(config: &FfmpegConfig, part: Part<'_>, clock: &Clock) -> Result<Frames, VideoError> {
    let folder = part.path;
    let files = images(folder)?;
    if files.is_empty() {
        return Err(VideoError::NoImages(folder.to_owned()));
    }
    let times: Vec<f64> = (0..files.len()).map(|index| index as f64 / config.folder_fps).collect();
    let rule = FfmpegConfig { sampling: config.sampling.for_folder(), ..config.clone() };
    let part = part.choose(&rule, &times)?;
    let chosen = &part.indices;
    let (width, height) = common_size(config, &files, clock)?;
    let bytes = chosen.len().saturating_mul(width as usize * height as usize * 3);
    if bytes > MOST_BYTES {
        return Err(VideoError::TooManyBytes { path: folder.to_owned(), bytes, limit: MOST_BYTES });
    }
    let mut rgb = Vec::with_capacity(bytes);
    for (place, index) in chosen.iter().copied().enumerate() {
        let frame = width as usize * height as usize * 3;
        match place.checked_sub(1).map(|before| chosen[before]) {
            Some(before) if before == index => rgb.extend_from_within(rgb.len() - frame..),
            _ => rgb.extend(decode(config, &files[index], frame)?),
        }
    }
    let duration = part.len() as f64 / config.folder_fps;
    Ok(Frames { width, height, rgb, timestamps: part.timestamps(), duration })
}

/// The folder's image files in the order of time.
fn images(folder: &Path) -> Result<Vec<PathBuf>, VideoError> {
    let failed = |source| VideoError::io(folder, source);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_image(&path) {
            files.push(path);
        }
        if files.len() > MOST_COUNTED {
            return Err(VideoError::TooManyFrames { path: folder.to_owned(), limit: MOST_COUNTED });
        }
    }
    sort_by_time(&mut files).map_err(|(first, second)| VideoError::Order { first, second })?;
    Ok(files)
}

/// Whether a path is a regular, non-hidden file with an image's extension (macOS leaves `._frame.jpg` in
/// archives).
fn is_image(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    !hidden && EXTENSIONS.contains(&extension.as_str()) && path.is_file()
}

fn common_size(config: &FfmpegConfig, files: &[PathBuf], clock: &Clock) -> Result<(u32, u32), VideoError> {
    let mut expected = None;
    for path in files {
        clock.tick();
        let file = fs::File::open(path).map_err(|source| VideoError::io(path, source))?;
        let size = image::size(&mut BufReader::new(file));
        let size = size.map_err(|reason| VideoError::damaged(path, reason))?;
        if u64::from(size.0) * u64::from(size.1) > config.max_pixels {
            return Err(VideoError::TooManyPixels { path: path.clone(), limit: config.max_pixels });
        }
        let expected = *expected.get_or_insert(size);
        if size != expected {
            return Err(VideoError::OddSize { path: path.clone(), size, expected });
        }
    }
    Ok(expected.unwrap_or_default())
}

fn decode(config: &FfmpegConfig, path: &Path, frame: usize) -> Result<Vec<u8>, VideoError> {
    let bytes = load(path)?;
    let rgb = Encoded::new(&bytes).and_then(|image| image.rgb(config.allow_damaged));
    let rgb = rgb.map_err(|reason| VideoError::damaged(path, reason))?;
    if rgb.len() != frame {
        return Err(VideoError::damaged(path, "the pixels do not match the header"));
    }
    Ok(rgb)
}

fn load(path: &Path) -> Result<Vec<u8>, VideoError> {
    fs::read(path).map_err(|source| VideoError::io(path, source))
}
