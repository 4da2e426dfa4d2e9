//! Qwen-VL's video processors: frames resized to whole merged patches within a pixel budget and cut into
//! patches of two frames, as `Qwen2VLVideoProcessor` and `Qwen3VLVideoProcessor` of transformers 5 do it.

use isr_api::Frames;
use tch::Tensor;

use super::file::ProcessorFile;
use super::normalization::Normalization;
use crate::error::{Result, TorchError};
use crate::model::pixel_values::PatchGrid;
use crate::model::section::check_sizes;

/// Settings of Qwen-VL's video processors. Sizes are in pixels unless stated otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PatchProcessor {
    /// Side of a patch.
    pub(crate) patch: i64,
    /// Frames of a patch.
    pub(crate) temporal: i64,
    /// Patches along a side of a merged square.
    pub(crate) merge: i64,
    /// Lower bound of the pixel budget.
    pub(crate) min_pixels: i64,
    /// Upper bound of the pixel budget.
    pub(crate) max_pixels: i64,
    /// Whether the pixel budget is for the whole video (Qwen3-VL) or for each frame (Qwen2.5-VL).
    pub(crate) whole_video: bool,
    /// Upper bound of a frame in merged tokens (`cap_pixels_per_frame` of qwen-vl-utils); `None` if off.
    pub(crate) cap: Option<i64>,
    /// Upper bound of a video in merged tokens.
    pub(crate) max_video_tokens: i64,
    pub(crate) normalization: Normalization,
}

impl PatchProcessor {
    /// Applies the settings of a processor file.
    ///
    /// # Errors
    /// A patch size that the tower does not take, or an unsupported filter.
    pub(super) fn with(mut self, file: &ProcessorFile) -> std::result::Result<Self, String> {
        let ours = [self.patch, self.temporal, self.merge];
        let theirs = [file.patch_size, file.temporal_patch_size, file.merge_size];
        if let Some((ours, theirs)) =
            ours.iter().zip(theirs).find_map(|(&a, b)| Some((a, b.filter(|b| *b != a)?)))
        {
            return Err(format!("cuts patches of {theirs}, but config.json's encoder takes {ours}"));
        }
        if file.is_bilinear()? {
            return Err("resample 2 is not supported for patches; known: 3 (bicubic)".to_owned());
        }
        let (min, max) = file.budget();
        self.min_pixels = min.unwrap_or(self.min_pixels);
        self.max_pixels = max.unwrap_or(self.max_pixels);
        self.max_video_tokens = file.max_video_tokens.unwrap_or(self.max_video_tokens);
        self.cap = file.cap_pixels_per_frame.unwrap_or(false).then_some(self.max_video_tokens);
        self.normalization = file.normalization(self.normalization)?;
        check_sizes(
            "size",
            &[
                ("longest_edge", self.max_pixels, 1..=1 << 40),
                ("shortest_edge", self.min_pixels, 0..=1 << 28),
                ("max_video_tokens", self.max_video_tokens, 1..=1 << 32),
            ],
        )?;
        Ok(self)
    }

    /// Returns the patch grid of a video.
    ///
    /// # Errors
    /// No frames, or sides of which one is more than 200 times the other.
    pub(super) fn grid(&self, frames: &Frames) -> Result<PatchGrid> {
        let count = frames.len() as i64;
        let (height, width) = self.sides(count, i64::from(frames.height), i64::from(frames.width))?;
        let steps = count.max(1).unsigned_abs().div_ceil(self.temporal.unsigned_abs()) as i64;
        Ok(PatchGrid { steps, height: height / self.patch, width: width / self.patch })
    }

    /// Identity text of the settings, see [`super::ImageProcessor::identity`].
    pub(super) fn identity(&self) -> String {
        let Self { patch, temporal, merge, min_pixels, max_pixels, whole_video, cap, .. } = self;
        let (tokens, normal) = (self.max_video_tokens, self.normalization.identity());
        format!(
            "PatchRecipe {{ patch: {patch}, temporal: {temporal}, merge: {merge}, min_pixels: {min_pixels}, \
             max_pixels: {max_pixels}, whole_video: {whole_video}, cap: {cap:?}, max_video_tokens: {tokens}, \
             normal: {normal} }}"
        )
    }

    /// Computes height and width in pixels, multiples of a merged patch: `smart_resize` of the two processors.
    fn sides(&self, frames: i64, height: i64, width: i64) -> Result<(i64, i64)> {
        let factor = (self.patch * self.merge) as f64;
        let (mut high, mut wide) = (height as f64, width as f64);
        if height < 1 || width < 1 || frames < 1 {
            return Err(TorchError::Prompt(format!(
                "{frames} frames of {width}x{height} pixels are no video"
            )));
        }
        if self.whole_video && frames < self.temporal {
            let text = format!("a video of {frames} frames; the model takes {} or more", self.temporal);
            return Err(TorchError::Prompt(text));
        }
        if self.whole_video && (high < factor || wide < factor) {
            let scale = (factor / high).max(factor / wide);
            (high, wide) = ((high * scale).trunc(), (wide * scale).trunc());
        }
        if high.max(wide) / high.min(wide) > 200.0 {
            let text =
                format!("frames of {width}x{height} are too long: one side is over 200 times the other");
            return Err(TorchError::Prompt(text));
        }
        let max = self.max_pixels(frames) as f64;
        let min = self.min_pixels as f64;
        let whole = |side: f64| (side / factor).round_ties_even() * factor;
        let (rounded_count, count) = match self.whole_video {
            true => {
                let temporal = self.temporal as f64;
                ((frames as f64 / temporal).round_ties_even() * temporal, frames as f64)
            }
            false => (1.0, 1.0),
        };
        let (mut to_high, mut to_wide) = (whole(high), whole(wide));
        let pixels = rounded_count * to_high * to_wide;
        if pixels > max {
            let shrink = (count * high * wide / max).sqrt();
            let down = |side: f64| ((side / shrink / factor).floor() * factor).max(factor);
            (to_high, to_wide) = (down(high), down(wide));
        } else if pixels < min {
            let grow = (min / (count * high * wide)).sqrt();
            let up = |side: f64| (side * grow / factor).ceil() * factor;
            (to_high, to_wide) = (up(high), up(wide));
        }
        Ok((to_high as i64, to_wide as i64))
    }

    /// Returns the upper bound of the pixel budget, lowered by the cap of a frame.
    fn max_pixels(&self, frames: i64) -> i64 {
        let Some(cap) = self.cap else {
            return self.max_pixels;
        };
        let token = (self.patch * self.merge).pow(2);
        let least = (self.min_pixels as f64 * 1.05) as i64;
        if self.whole_video {
            (cap * token).min(self.max_pixels / frames).max(least) * frames
        } else {
            let all = ((cap * token) as f64 * 0.9) as i64;
            self.max_pixels.min(all * self.temporal / frames).max(least)
        }
    }

    /// Cuts 8-bit frames `[frames, 3, height, width]` into float32 patches
    /// `[steps * height * width, 3 * temporal * patch * patch]`. Patches of one merged square are adjacent; the
    /// last frame is repeated to fill the last step.
    pub(super) fn patches(&self, raw: &Tensor, grid: PatchGrid) -> Result<Tensor> {
        let target = [grid.height * self.patch, grid.width * self.patch];
        let scaled = match raw.size()[2..] == target {
            true => raw.shallow_clone(),
            false => raw.f_internal_upsample_bicubic2d_aa(target, false, None, None)?,
        };
        let mut pixels = self.normalization.of_bytes(&scaled)?;
        let missing = grid.steps * self.temporal - pixels.size()[0];
        if missing > 0 {
            let last = pixels.f_narrow(0, pixels.size()[0] - 1, 1)?;
            pixels = Tensor::f_cat(&[&pixels, &last.f_repeat([missing, 1, 1, 1])?], 0)?;
        }
        let (merge, patch) = (self.merge, self.patch);
        let cut = [
            grid.steps,
            self.temporal,
            3,
            grid.height / merge,
            merge,
            patch,
            grid.width / merge,
            merge,
            patch,
        ];
        let ordered =
            pixels.f_contiguous()?.f_view(cut.as_slice())?.f_permute([0, 3, 6, 4, 7, 2, 1, 5, 8])?;
        let count = grid.steps * grid.height * grid.width;
        Ok(ordered.f_reshape([count, 3 * self.temporal * patch * patch])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(whole_video: bool, min_pixels: i64, max_pixels: i64, patch: i64) -> PatchProcessor {
        PatchProcessor {
            patch,
            temporal: 2,
            merge: 2,
            min_pixels,
            max_pixels,
            whole_video,
            cap: None,
            max_video_tokens: 768,
            normalization: Normalization::CLIP,
        }
    }

    /// Sides that transformers 5.23.0's two `smart_resize` give.
    #[test]
    fn sides_equal_the_reference() {
        let frame = processor(false, 784, 602_112, 14);
        assert_eq!(frame.sides(8, 90, 120).unwrap(), (84, 112));
        assert_eq!(frame.sides(8, 1080, 1920).unwrap(), (560, 1008));
        assert_eq!(frame.sides(8, 14, 14).unwrap(), (28, 28));
        // 42 / 28 is a tie; Python rounds it to the even 2.
        assert_eq!(frame.sides(8, 42, 70).unwrap(), (56, 56));
        let video = processor(true, 1024, 1_572_864, 16);
        assert_eq!(video.sides(8, 90, 120).unwrap(), (96, 128));
        assert_eq!(video.sides(8, 1080, 1920).unwrap(), (320, 576));
        assert_eq!(video.sides(8, 10, 20).unwrap(), (32, 64));
        assert!(frame.sides(8, 3, 1000).is_err());
    }

    #[test]
    fn a_cap_bounds_short_videos() {
        let capped = PatchProcessor { cap: Some(4), ..processor(true, 1024, 1_572_864, 16) };
        let (height, width) = capped.sides(8, 1080, 1920).unwrap();
        assert!(height * width <= 4 * 32 * 32, "{height}x{width}");
    }
}
