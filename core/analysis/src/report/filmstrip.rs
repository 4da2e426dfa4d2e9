//! Film strips: a few frames of a video as small PNG images, embedded once however often shown.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isr_api::Frames;
use serde::Serialize;

use crate::report::FrameSource;
use crate::report::error::ReportError;

/// Frames in a strip.
const FRAMES: usize = 8;
/// Largest embedded thumbnail; smaller frames are embedded as they are.
const MAX_HEIGHT: usize = 96;
const MAX_WIDTH: usize = 171;
/// Height at which a thumbnail is drawn, gap between two, and room for the time below.
const DRAWN: f64 = 76.0;
const GAP: f64 = 4.0;
const LABEL: f64 = 14.0;

/// The strips that the page refers to.
pub(crate) struct Filmstrips<'a> {
    source: &'a dyn FrameSource,
    /// Run directory whose videos are asked for.
    run: PathBuf,
    known: HashMap<(PathBuf, String, Option<u32>), Option<usize>>,
    strips: Vec<Filmstrip>,
}

/// A strip as the template draws it; the page names it by its index.
#[derive(Clone, PartialEq, Serialize)]
pub(crate) struct Filmstrip {
    width: f64,
    height: f64,
    thumbnails: Vec<Thumbnail>,
    /// Drawn larger than its pixels, which then stay visible.
    pixelated: bool,
    /// `8 frames, 0.0 to 3.5 s`.
    description: String,
}

#[derive(Clone, PartialEq, Serialize)]
struct Thumbnail {
    x: f64,
    middle: f64,
    width: f64,
    height: f64,
    /// PNG, base64: letters, digits, `+`, `/` and `=` only.
    png: String,
    time: String,
}

impl<'a> Filmstrips<'a> {
    pub(crate) fn new(source: &'a dyn FrameSource) -> Self {
        Self { source, run: PathBuf::new(), known: HashMap::new(), strips: Vec::new() }
    }

    /// Takes the frames of what follows from a run's own reader.
    pub(crate) fn look_in(&mut self, run: &Path) {
        run.clone_into(&mut self.run);
    }

    /// The index of the strip of a video as an iteration saw it, or without one as evaluation does; `None` where its frames
    /// cannot be had.
    pub(crate) fn strip(
        &mut self,
        video: &str,
        iteration: Option<u32>,
    ) -> Result<Option<usize>, ReportError> {
        let iteration = iteration.filter(|_| self.source.draws_frames(&self.run));
        let key = (self.run.clone(), video.to_owned(), iteration);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let frames = self.source.frames(&self.run, video, iteration).filter(is_whole);
        let index = match frames {
            Some(frames) => {
                let strip = draw(&frames)
                    .map_err(|source| ReportError::Thumbnail { video: video.into(), source })?;
                // Runs with equal readers share a strip.
                let known = self.strips.iter().position(|known| *known == strip);
                Some(known.unwrap_or_else(|| {
                    self.strips.push(strip);
                    self.strips.len() - 1
                }))
            }
            None => None,
        };
        self.known.insert(key, index);
        Ok(index)
    }

    /// All strips, in the order of their indices.
    pub(crate) fn into_strips(self) -> Vec<Filmstrip> {
        self.strips
    }
}

fn is_whole(frames: &Frames) -> bool {
    let bytes = frames.frame_bytes();
    bytes > 0 && !frames.is_empty() && frames.rgb.len() >= bytes * frames.len()
}

fn draw(frames: &Frames) -> Result<Filmstrip, png::EncodingError> {
    let (full_width, full_height) = (frames.width as usize, frames.height as usize);
    let scale = (MAX_HEIGHT as f64 / full_height as f64).min(MAX_WIDTH as f64 / full_width as f64).min(1.0);
    let scaled = |size: usize| ((size as f64 * scale).round() as usize).max(1);
    let (width, height) = (scaled(full_width), scaled(full_height));
    let drawn = DRAWN.min(DRAWN * MAX_WIDTH as f64 / MAX_HEIGHT as f64 * height as f64 / width as f64);
    let drawn_width = (drawn * width as f64 / height as f64).round();
    let mut thumbnails = Vec::new();
    let shown = spread(frames.len());
    for (place, &index) in shown.iter().enumerate() {
        let Some(rgb) = frames.frame(index) else { continue };
        let small = shrink(rgb, (full_width, full_height), (width, height));
        let x = place as f64 * (drawn_width + GAP);
        thumbnails.push(Thumbnail {
            x,
            middle: x + drawn_width / 2.0,
            width: drawn_width,
            height: drawn,
            png: STANDARD.encode(encode(&small, width, height)?),
            time: format!("{:.1} s", frames.timestamps[index]),
        });
    }
    let last = frames.timestamps.last().copied().unwrap_or_default();
    Ok(Filmstrip {
        width: thumbnails.len() as f64 * (drawn_width + GAP) - GAP,
        height: drawn + LABEL,
        description: format!("{} frames, {:.1} to {last:.1} s", thumbnails.len(), frames.timestamps[0]),
        thumbnails,
        pixelated: (height as f64) < DRAWN,
    })
}

/// At most [`FRAMES`] indices, evenly spread from first to last.
fn spread(count: usize) -> Vec<usize> {
    let shown = count.min(FRAMES);
    (0..shown).map(|place| if shown > 1 { place * (count - 1) / (shown - 1) } else { 0 }).collect()
}

/// Averages the source pixels under each target pixel; targets are no larger than the source.
fn shrink(
    rgb: &[u8],
    (from_width, from_height): (usize, usize),
    (width, height): (usize, usize),
) -> Vec<u8> {
    if (from_width, from_height) == (width, height) {
        return rgb.to_vec();
    }
    let covered = |at: usize, from: usize, to: usize| {
        let start = at * from / to;
        start..((at + 1) * from / to).max(start + 1)
    };
    let mut small = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let mut sum = [0_u32; 3];
            let mut count = 0;
            for from_y in covered(y, from_height, height) {
                for from_x in covered(x, from_width, width) {
                    let at = (from_y * from_width + from_x) * 3;
                    sum.iter_mut().zip(&rgb[at..at + 3]).for_each(|(sum, &value)| *sum += u32::from(value));
                    count += 1;
                }
            }
            small.extend(sum.map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
    small
}

fn encode(rgb: &[u8], width: usize, height: usize) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn frames(width: u32, height: u32, count: usize) -> Frames {
        let rgb =
            (0..width as usize * height as usize * 3 * count).map(|byte| (byte % 251) as u8).collect();
        Frames::new(width, height, rgb, (0..count).map(|index| index as f64 / 2.0).collect()).unwrap()
    }

    #[test]
    fn a_video_is_read_and_embedded_once() {
        let asked = Cell::new(0);
        let source = |_: &Path, video: &str| {
            asked.set(asked.get() + 1);
            (video != "gone").then(|| frames(4, 3, 8))
        };
        let mut films = Filmstrips::new(&source);
        let strips = ["a", "b", "a", "gone", "gone"].map(|video| films.strip(video, Some(1)).unwrap());
        // Both have the same frames.
        assert_eq!(strips, [Some(0), Some(0), Some(0), None, None]);
        assert_eq!((asked.get(), films.into_strips().len()), (3, 1));
    }

    #[test]
    fn a_video_whose_frames_are_drawn_has_a_strip_for_each_iteration() {
        struct Drawn;
        impl FrameSource for Drawn {
            fn frames(&self, _: &Path, _: &str, iteration: Option<u32>) -> Option<Frames> {
                Some(frames(4, 3, iteration.map_or(8, |t| t as usize)))
            }
            fn draws_frames(&self, run: &Path) -> bool {
                run == Path::new("drawn")
            }
        }
        let mut films = Filmstrips::new(&Drawn);
        films.look_in(Path::new("drawn"));
        let strips = [Some(1), Some(2), Some(1), None].map(|t| films.strip("a", t).unwrap());
        assert_eq!(strips, [Some(0), Some(1), Some(0), Some(2)]);
        films.look_in(Path::new("fixed"));
        assert_eq!([Some(1), Some(2), None].map(|t| films.strip("a", t).unwrap()), [Some(2); 3]);
    }

    #[test]
    fn frames_that_are_not_whole_are_not_drawn() {
        let mut films =
            Filmstrips::new(&|_: &Path, _: &str| Some(Frames { rgb: vec![0; 5], ..frames(4, 3, 8) }));
        assert_eq!(films.strip("cut", None).unwrap(), None);
        let mut films = Filmstrips::new(&|_: &Path, _: &str| {
            Some(Frames { width: 0, rgb: Vec::new(), ..frames(4, 3, 1) })
        });
        assert_eq!(films.strip("empty", None).unwrap(), None);
    }

    #[test]
    fn large_frames_are_shrunk_and_long_videos_thinned() {
        let strip = draw(&frames(640, 360, 20)).unwrap();
        assert_eq!(strip.thumbnails.len(), FRAMES);
        let png = STANDARD.decode(&strip.thumbnails[7].png).unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (171, 96));
        assert_eq!(strip.thumbnails[7].time, "9.5 s");
        assert!(!strip.pixelated && draw(&frames(32, 32, 1)).unwrap().pixelated);
    }

    #[test]
    fn shrinking_averages() {
        let rgb = [[0, 0, 0], [100, 0, 0], [0, 100, 0], [100, 100, 255]].concat();
        assert_eq!(shrink(&rgb, (2, 2), (1, 1)), [50, 50, 64]);
    }
}
