//! CLIP's image processor, as `CLIPImageProcessor` of transformers 5 (torchvision backend) computes it.

use tch::Tensor;

use super::file::ProcessorFile;
use super::normalization::Normalization;
use crate::error::Result;
use crate::model::section::{PIXELS, check_sizes};

/// Settings of `CLIPImageProcessor`: resize with antialiasing on 8-bit values, centre crop, normalise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClipProcessor {
    resize: Resize,
    /// Bilinear instead of bicubic interpolation.
    bilinear: bool,
    /// Side of the centre crop in pixels.
    crop: i64,
    normalization: Normalization,
}

/// Target size of a resize, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Resize {
    /// Length of the shorter side; the aspect ratio is kept.
    ShortSide(i64),
    /// Height and width.
    Exact([i64; 2]),
}

impl ClipProcessor {
    /// Creates the default processor of a tower with square input of `side` pixels.
    pub(super) fn new(side: i64) -> Self {
        let resize = Resize::ShortSide(side);
        Self { resize, bilinear: false, crop: side, normalization: Normalization::CLIP }
    }

    /// Creates the default processor of LLaVA-OneVision and InternVL, which resizes frames to a square of `side` pixels
    /// whatever their shape.
    pub(super) fn square(side: i64, normalization: Normalization) -> Self {
        Self { resize: Resize::Exact([side; 2]), bilinear: false, crop: side, normalization }
    }

    /// Applies the settings of a processor file.
    ///
    /// # Errors
    /// An output size that the tower does not take, or an unsupported filter.
    pub(super) fn with(mut self, file: &ProcessorFile) -> std::result::Result<Self, String> {
        let crop = if file.crops() { file.crop_size()? } else { None };
        self.resize = match file.exact_size() {
            Some(size) => Resize::Exact(size),
            None => file.short_side().map_or(self.resize, Resize::ShortSide),
        };
        let sides = match self.resize {
            Resize::ShortSide(side) => [side; 2],
            Resize::Exact(sides) => sides,
        };
        check_sizes("size", &[("height", sides[0], PIXELS), ("width", sides[1], PIXELS)])?;
        let whole = match self.resize {
            Resize::ShortSide(side) => side,
            Resize::Exact([height, width]) => height.min(width),
        };
        let side = crop.unwrap_or(if file.crops() { self.crop } else { whole });
        let square = file.crops() || self.resize == Resize::Exact([side; 2]);
        if side != self.crop || whole < side || !square {
            return Err(format!(
                "makes pictures of {side} pixels (or not square), but the tower takes {}",
                self.crop
            ));
        }
        self.bilinear = file.is_bilinear()?;
        self.normalization = file.normalization(self.normalization)?;
        Ok(self)
    }

    /// Preprocesses 8-bit frames `[frames, 3, height, width]` to float32 `[frames, 3, side, side]`.
    pub(super) fn pixels(&self, raw: &Tensor) -> Result<Tensor> {
        let target = match self.resize {
            Resize::ShortSide(side) => short_side(raw, side),
            Resize::Exact(size) => size,
        };
        let scaled = match raw.size()[2..] == target {
            true => raw.shallow_clone(),
            false if self.bilinear => raw.f_internal_upsample_bilinear2d_aa(target, false, None, None)?,
            false => raw.f_internal_upsample_bicubic2d_aa(target, false, None, None)?,
        };
        self.normalization.of_bytes(&centre_crop(&scaled, self.crop)?)
    }

    /// Identity text of the settings, see [`super::ImageProcessor::identity`].
    pub(super) fn identity(&self) -> String {
        let Self { resize, bilinear, crop, normalization } = self;
        let normal = normalization.identity();
        format!("ClipRecipe {{ resize: {resize:?}, bilinear: {bilinear}, crop: {crop}, normal: {normal} }}")
    }
}

/// Returns `[height, width]` with the short side equal to `size` and the long side truncated.
fn short_side(raw: &Tensor, size: i64) -> [i64; 2] {
    let (height, width) = (raw.size()[2], raw.size()[3]);
    match height <= width {
        true => [size, size * width / height],
        false => [size * height / width, size],
    }
}

/// Crops the central square; offsets are floored, as in torchvision.
fn centre_crop(image: &Tensor, size: i64) -> Result<Tensor> {
    let (height, width) = (image.size()[2], image.size()[3]);
    let (top, left) = ((height - size) / 2, (width - size) / 2);
    Ok(image.f_narrow(2, top, size)?.f_narrow(3, left, size)?)
}
