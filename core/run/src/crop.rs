//! Corrupted videos of mDPO (arXiv 2406.11839, section 3.1).
//!
//! The authors crop an image to a random window of 1 to 20 % of its area and resize it to the original size
//! (`RandomResizedCrop` in `bunny/modeling_bunny_phi.py` of luka-group/mDPO). Here all frames of a video share one
//! window, so motion is preserved, and the number of visual tokens does not change.

use isr_api::Frames;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Range of the window's share of the area.
const SCALE: std::ops::Range<f64> = 0.01..0.2;
/// Natural logarithm of the largest aspect ratio of the window, 4 / 3.
const LOG_RATIO: f64 = 0.287_682_072_451_780_9;

/// Crops every frame to one window drawn by `seed`, and resizes it to the frame size.
pub(crate) fn cropped(frames: &Frames, seed: u64) -> Frames {
    let window = Window::drawn(frames.width, frames.height, &mut ChaCha12Rng::seed_from_u64(seed));
    let rgb = (0..frames.len()).filter_map(|index| frames.frame(index));
    let rgb = rgb.flat_map(|frame| window.scaled(frame, frames.width, frames.height)).collect();
    let Frames { width, height, ref timestamps, duration, .. } = *frames;
    Frames { rgb, width, height, timestamps: timestamps.clone(), duration }
}

/// A crop window in pixels.
#[derive(Clone, Copy, Debug)]
struct Window {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Window {
    fn drawn(width: u32, height: u32, rng: &mut impl Rng) -> Self {
        let area = f64::from(width) * f64::from(height) * rng.random_range(SCALE);
        let ratio = rng.random_range(-LOG_RATIO..LOG_RATIO).exp();
        let side = |length: f64, all: u32| (length.round() as u32).clamp(1, all.max(1));
        let (w, h) = (side((area * ratio).sqrt(), width), side((area / ratio).sqrt(), height));
        let mut at = |all: u32, part: u32| rng.random_range(0..=all.saturating_sub(part));
        Self { left: at(width, w), top: at(height, h), width: w, height: h }
    }

    /// Resizes the window bilinearly, with pixel centres at half-integers (`align_corners = false`).
    fn scaled(&self, frame: &[u8], width: u32, height: u32) -> Vec<u8> {
        let columns: Vec<Between> =
            (0..width).map(|x| Between::new(x, width, self.left, self.width)).collect();
        let mut scaled = Vec::with_capacity(frame.len());
        for y in 0..height {
            let row = Between::new(y, height, self.top, self.height);
            for column in &columns {
                for channel in 0..3 {
                    let at = |y: usize, x: usize| f64::from(frame[(y * width as usize + x) * 3 + channel]);
                    let line = |y| column.mix(at(y, column.low), at(y, column.high));
                    scaled.push(row.mix(line(row.low), line(row.high)).round() as u8);
                }
            }
        }
        scaled
    }
}

/// Interpolation between two neighbouring pixels: their indices and the weight of the second.
struct Between {
    low: usize,
    high: usize,
    share: f64,
}

impl Between {
    /// Source of output pixel `index` of `count` within `length` input pixels from `start`.
    fn new(index: u32, count: u32, start: u32, length: u32) -> Self {
        let place = (f64::from(index) + 0.5) * f64::from(length) / f64::from(count) - 0.5;
        let place = place.clamp(0.0, f64::from(length - 1));
        let low = place as u32;
        let high = (low + 1).min(length - 1);
        Self { low: (start + low) as usize, high: (start + high) as usize, share: place - f64::from(low) }
    }

    fn mix(&self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red grows to the right, green downwards, blue by frame.
    fn frames(width: u32, height: u32, count: u8) -> Frames {
        let pixel = |t, y: u32, x: u32| [x as u8, y as u8, t];
        let row = |t, y| (0..width).flat_map(move |x| pixel(t, y, x));
        let frame = |t| (0..height).flat_map(move |y| row(t, y));
        let rgb = (0..count).flat_map(frame).collect();
        Frames::new(width, height, rgb, (0..count).map(f64::from).collect()).unwrap()
    }

    #[test]
    fn one_window_of_all_frames_is_scaled_up() {
        let whole = frames(120, 80, 3);
        for seed in 0..50 {
            let part = cropped(&whole, seed);
            assert_eq!((part.width, part.height, part.len()), (120, 80, 3));
            assert_eq!(part.rgb.len(), whole.rgb.len());
            let (first, last) = (&part.rgb[..3], &part.frame(0).unwrap()[120 * 80 * 3 - 3..]);
            let (width, height) = (last[0] - first[0] + 1, last[1] - first[1] + 1);
            let share = f64::from(width) * f64::from(height) / (120.0 * 80.0);
            assert!((0.008..0.21).contains(&share), "{share}");
            for (index, frame) in (0..3).map(|index| (index, part.frame(index).unwrap())) {
                let same = frame.chunks(3).zip(part.frame(0).unwrap().chunks(3));
                assert!(same.into_iter().all(|(here, there)| here[..2] == there[..2]));
                assert!(frame.chunks(3).all(|pixel| pixel[2] == index as u8));
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let whole = frames(60, 60, 2);
        assert_eq!(cropped(&whole, 1), cropped(&whole, 1));
        assert_ne!(cropped(&whole, 1).rgb, cropped(&whole, 2).rgb);
        assert_ne!(cropped(&whole, 1).rgb, whole.rgb);
    }

    #[test]
    fn the_smallest_and_the_flattest_frames_have_a_window() {
        for (width, height) in [(1, 1), (2, 1), (1, 200), (200, 1), (3, 250)] {
            let whole = frames(width, height, 1);
            assert_eq!(cropped(&whole, 9).rgb.len(), whole.rgb.len());
        }
    }

    #[test]
    fn between_two_pixels_lies_their_mean() {
        let window = Window { left: 1, top: 0, width: 2, height: 1 };
        let frame: Vec<u8> = [0, 100, 200, 9].iter().flat_map(|&value| [value; 3]).collect();
        let red: Vec<u8> = window.scaled(&frame, 4, 1).chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(red, [100, 125, 175, 200]);
    }
}
