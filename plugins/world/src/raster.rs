//! From a clip to pixels. Only additions, multiplications and comparisons, so every machine paints the
//! same bytes.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::attributes::{Background, Shape};
use crate::clip::{Clip, Split, half_size};
use crate::config::WorldConfig;

/// Grey levels of the backgrounds: dark, light, and the two of the patterns.
const DARK: u8 = 28;
const LIGHT: u8 = 228;
const PATTERN: [u8; 2] = [70, 140];
/// Those of shifted clips, whose patterns are half as fine, and whose colours are mixed with a share of grey.
const SHIFTED: Paint = Paint { dark: 56, light: 200, pattern: [90, 170], cells: 4, grey: 0.25 };
const USUAL: Paint = Paint { dark: DARK, light: LIGHT, pattern: PATTERN, cells: 8, grey: 0.0 };
/// Samples along each axis of a pixel.
const SAMPLES: u32 = 4;

/// How a clip is painted.
struct Paint {
    dark: u8,
    light: u8,
    pattern: [u8; 2],
    /// Bands or fields of a pattern across the frame.
    cells: usize,
    /// Share of middle grey in a colour.
    grey: f64,
}

/// All frames of a clip: `u8` RGB of shape `[frames, size, size, 3]`, row-major.
pub fn render(config: &WorldConfig, clip: &Clip) -> Vec<u8> {
    let size = config.size as usize;
    let paint = if clip.split == Split::Shifted { &SHIFTED } else { &USUAL };
    let background = paint_background(clip.facts.background, clip.phase, size, paint);
    let mut noise = ChaCha8Rng::seed_from_u64(clip.noise_seed);
    let mut frames = Vec::with_capacity(background.len() * config.frames as usize);
    let mut frame = background.clone();
    for index in 0..config.frames {
        let time = clip.time(index, config.frames);
        frame.copy_from_slice(&background);
        for (object, placement) in clip.facts.objects.iter().zip(&clip.placements) {
            let Some(centre) = placement.centre(time) else { continue };
            let level =
                |level: u8| (f64::from(level) * (1.0 - paint.grey) + 128.0 * paint.grey) * placement.shade;
            paint_object(
                &mut frame,
                size,
                object.shape,
                placement.radius,
                centre,
                object.colour.rgb().map(level),
            );
        }
        add_noise(&mut frame, &mut noise, config.noise);
        frames.extend_from_slice(&frame);
    }
    frames
}

fn paint_background(background: Background, phase: [u32; 2], size: usize, paint: &Paint) -> Vec<u8> {
    let cell = size / paint.cells;
    let band = |coordinate: usize, offset: u32| (coordinate + offset as usize) / cell;
    let mut frame = Vec::with_capacity(size * size * 3);
    for y in 0..size {
        for x in 0..size {
            let level = match background {
                Background::Dark => paint.dark,
                Background::Light => paint.light,
                Background::Striped => paint.pattern[band(y, phase[1]) % 2],
                Background::Checked => paint.pattern[(band(x, phase[0]) + band(y, phase[1])) % 2],
            };
            frame.extend([level; 3]);
        }
    }
    frame
}

fn paint_object(
    frame: &mut [u8],
    size: usize,
    shape: Shape,
    radius: f64,
    centre: [f64; 2],
    colour: [f64; 3],
) {
    let half = half_size(shape).map(|half| half * radius);
    let span = |axis: usize| {
        let (low, high) = (centre[axis] - half[axis], centre[axis] + half[axis]);
        low.max(0.0) as usize..(high.max(0.0) as usize + 1).min(size)
    };
    for y in span(1) {
        for x in span(0) {
            let share = coverage(shape, radius, centre, x, y);
            let at = (y * size + x) * 3;
            for (level, target) in frame[at..at + 3].iter_mut().zip(colour) {
                *level = (f64::from(*level) * (1.0 - share) + target * share + 0.5) as u8;
            }
        }
    }
}

/// Share of the pixel that the shape covers.
fn coverage(shape: Shape, radius: f64, centre: [f64; 2], x: usize, y: usize) -> f64 {
    let at = |pixel: usize, sample: u32, axis: usize| {
        (pixel as f64 + (f64::from(sample) + 0.5) / f64::from(SAMPLES) - centre[axis]) / radius
    };
    let inside = (0..SAMPLES)
        .flat_map(|row| (0..SAMPLES).map(move |column| (row, column)))
        .filter(|(row, column)| contains(shape, at(x, *column, 0), at(y, *row, 1)))
        .count();
    inside as f64 / f64::from(SAMPLES * SAMPLES)
}

/// Whether a point is inside a shape of radius 1; `v` points downwards.
fn contains(shape: Shape, u: f64, v: f64) -> bool {
    let (across, down) = (u.abs(), v.abs());
    match shape {
        Shape::Bar => across <= 1.25 && down <= 0.42,
        Shape::Pole => across <= 0.42 && down <= 1.25,
        Shape::Square => across <= 0.88 && down <= 0.88,
        Shape::Cross => across.max(down) <= 1.0 && across.min(down) <= 0.33,
        Shape::Ring => (0.27..=1.0).contains(&(u * u + v * v)),
        Shape::Triangle => down <= 1.0 && across <= (v + 1.0) / 2.0,
    }
}

/// Adds one brightness offset a pixel, nearly normal: a sum of four uniform bytes, in integers.
fn add_noise(frame: &mut [u8], rng: &mut ChaCha8Rng, noise: f64) {
    /// Standard deviation of that sum: sqrt(4 * (256^2 - 1) / 12).
    const DEVIATION: f64 = 147.8;
    let factor = (noise * 255.0 / DEVIATION * 65536.0) as i32;
    if factor == 0 {
        return;
    }
    for pixel in frame.chunks_exact_mut(3) {
        let sum: i32 = rng.next_u32().to_le_bytes().iter().map(|byte| i32::from(*byte)).sum();
        let offset = ((sum - 510) * factor) >> 16;
        for level in pixel {
            *level = (i32::from(*level) + offset).clamp(0, 255) as u8;
        }
    }
}

/// RGB frames as `yuv420p` (BT.601, limited range), each frame's three planes in turn. In integers, and
/// here rather than in ffmpeg, whose scaler may round otherwise from version to version.
pub(crate) fn to_yuv420(rgb: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rgb.len() / 2);
    for frame in rgb.chunks_exact(size * size * 3) {
        out.extend(frame.chunks_exact(3).map(|pixel| weigh(pixel, [66, 129, 25], 16)));
        let pixel = |x: usize, y: usize| &frame[(y * size + x) * 3..][..3];
        for weights in [[-38, -74, 112], [112, -94, -18]] {
            for y in (0..size).step_by(2) {
                for x in (0..size).step_by(2) {
                    let block = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
                    let mean = |channel: usize| {
                        let sum: u32 = block.iter().map(|pixel| u32::from(pixel[channel])).sum();
                        ((sum + 2) / 4) as u8
                    };
                    out.push(weigh(&[mean(0), mean(1), mean(2)], weights, 128));
                }
            }
        }
    }
    out
}

fn weigh(pixel: &[u8], weights: [i32; 3], offset: i32) -> u8 {
    let sum: i32 = pixel.iter().zip(weights).map(|(level, weight)| i32::from(*level) * weight).sum();
    (((sum + 128) >> 8) + offset).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use isr_api::Fingerprint;

    use super::*;

    #[test]
    fn pixels_are_pinned() {
        let config = WorldConfig::default();
        let clip = Clip::generate(&config, Split::Training, 0);
        let rgb = render(&config, &clip);
        assert_eq!(rgb.len(), 24 * 64 * 64 * 3);
        let yuv = to_yuv420(&rgb, 64);
        assert_eq!(yuv.len(), rgb.len() / 2);
        insta::assert_snapshot!(format!("{}\n{}", Fingerprint::of(&rgb), Fingerprint::of(&yuv)));
    }

    #[test]
    fn yuv_is_limited_range_bt601() {
        let plane = |rgb: [u8; 3]| to_yuv420(&rgb.repeat(4), 2);
        assert_eq!(plane([0, 0, 0]), [16, 16, 16, 16, 128, 128]);
        assert_eq!(plane([255, 255, 255]), [235, 235, 235, 235, 128, 128]);
        assert_eq!(plane([255, 0, 0]), [82, 82, 82, 82, 90, 240]);
        assert_eq!(plane([0, 0, 255]), [41, 41, 41, 41, 240, 110]);
    }

    #[test]
    fn noise_has_the_deviation_that_was_asked_for() {
        let mut frame = vec![128_u8; 64 * 64 * 3];
        add_noise(&mut frame, &mut ChaCha8Rng::seed_from_u64(1), 0.05);
        let levels: Vec<_> = frame.chunks_exact(3).map(|pixel| f64::from(pixel[0]) - 128.0).collect();
        let mean = levels.iter().sum::<f64>() / levels.len() as f64;
        let variance = levels.iter().map(|level| (level - mean).powi(2)).sum::<f64>() / levels.len() as f64;
        assert!(mean.abs() < 1.0, "{mean}");
        assert!((variance.sqrt() / 255.0 - 0.05).abs() < 0.003, "{variance}");
    }

    #[test]
    fn shapes_differ_in_at_least_a_fifth_of_their_pixels() {
        let grid = |shape| -> Vec<bool> {
            let step = |index: i32| f64::from(index) / 20.0;
            (-26..=26).flat_map(|y| (-26..=26).map(move |x| contains(shape, step(x), step(y)))).collect()
        };
        for a in Shape::ALL {
            for b in Shape::ALL.iter().filter(|b| *b > a) {
                let (one, two) = (grid(*a), grid(*b));
                let differ = one.iter().zip(&two).filter(|(p, q)| p != q).count();
                let either = one.iter().zip(&two).filter(|(p, q)| **p || **q).count();
                assert!(differ * 5 > either, "{a:?} and {b:?}: {differ} of {either}");
            }
        }
    }
}
