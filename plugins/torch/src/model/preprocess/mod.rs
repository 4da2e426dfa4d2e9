//! From decoded frames to an encoder's input.
//!
//! Three recipes, since the lineages differ in order and filter:
//! - CLIP: transformers 5's processors (torchvision backend): short side to the target on 8-bit values
//!   with antialiasing, centre crop (floor), then `(x - 255 mean) / (255 std)`;
//! - LLaVA-Hound: LanguageBind's video transform: to [0, 1], normalise, short side to the target by
//!   bilinear interpolation without antialiasing in float, centre crop (rounded);
//! - Qwen-VL: sides rounded to whole merged patches within a budget of pixels (`patches.rs`).

mod file;
mod patches;

use isr_api::Frames;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::vision::QwenVision;
use crate::error::{Result, TorchError};
pub(crate) use file::ProcessorFile;
pub(crate) use patches::PatchGrid;
use patches::PatchRecipe;

/// CLIP's channel means, of values in [0, 1].
pub(crate) const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// CLIP's channel standard deviations.
pub(crate) const STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// Which transform makes pixels of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preprocess {
    /// The checkpoint's own: LanguageBind's for LLaVA's original format, else that of its processor
    /// files.
    #[default]
    Checkpoint,
    /// transformers' `CLIPImageProcessor`.
    Clip,
    /// LanguageBind's transform, as LLaVA-Hound and ISR-DPO apply it.
    LlavaHound,
}

/// How frames become an encoder's input, with all its numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Recipe {
    /// transformers' processors for CLIP.
    Clip(ClipRecipe),
    /// LanguageBind's transform; the side of the square.
    LlavaHound(i64),
    /// Qwen-VL's patches.
    Patches(PatchRecipe),
}

/// The numbers of CLIP's processors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClipRecipe {
    resize: Resize,
    bilinear: bool,
    crop: i64,
    normal: Normal,
}

/// What frames are scaled to, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Resize {
    ShortSide(i64),
    Exact([i64; 2]),
}

/// Channel means and standard deviations of values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Normal {
    mean: [f64; 3],
    std: [f64; 3],
}

const CLIP_NORMAL: Normal = Normal { mean: MEAN, std: STD };

/// One video, ready for an encoder.
pub(crate) struct Prepared {
    /// `[frames, 3, side, side]`, or patches `[patches, values]`.
    pub(crate) pixels: Tensor,
    /// The patches' order; one of CLIP's frames is a step of `1 x 1`.
    pub(crate) grid: PatchGrid,
}

impl Recipe {
    /// transformers' recipe for a CLIP tower.
    pub(crate) fn clip(side: i64) -> Self {
        let resize = Resize::ShortSide(side);
        Self::Clip(ClipRecipe { resize, bilinear: false, crop: side, normal: CLIP_NORMAL })
    }

    /// LanguageBind's.
    pub(crate) fn llava_hound(side: i64) -> Self {
        Self::LlavaHound(side)
    }

    /// Qwen2.5-VL's.
    pub(crate) fn qwen2_5(vision: &QwenVision) -> Self {
        Self::Patches(PatchRecipe::qwen2_5(vision))
    }

    /// Qwen3-VL's.
    pub(crate) fn qwen3(vision: &QwenVision) -> Self {
        Self::Patches(PatchRecipe::qwen3(vision))
    }

    /// The same recipe with the numbers of a processor's file.
    pub(crate) fn with(self, file: &ProcessorFile) -> std::result::Result<Self, String> {
        file.check()?;
        Ok(match self {
            Self::Clip(recipe) => Self::Clip(recipe.with(file)?),
            Self::Patches(recipe) => Self::Patches(recipe.with(file)?),
            // LanguageBind's transform has its numbers in code.
            Self::LlavaHound(side) => Self::LlavaHound(side),
        })
    }

    /// What a user's choice makes of the checkpoint's recipe.
    pub(crate) fn chosen(&self, choice: Preprocess, side: i64) -> Self {
        match (choice, self) {
            (Preprocess::Checkpoint, _) | (_, Self::Patches(_)) => self.clone(),
            (Preprocess::Clip, Self::Clip(_)) => self.clone(),
            (Preprocess::Clip, _) => Self::clip(side),
            (Preprocess::LlavaHound, _) => Self::llava_hound(side),
        }
    }

    /// Steps, rows and columns of a video's patches; of CLIP's, one patch a frame.
    ///
    /// # Errors
    /// Frames that the recipe cannot take.
    pub(crate) fn grid(&self, frames: &Frames) -> Result<PatchGrid> {
        match self {
            Self::Patches(recipe) => recipe.grid(frames),
            _ => Ok(PatchGrid { steps: frames.len() as i64, height: 1, width: 1 }),
        }
    }

    /// Prepares the frames of one video, in float32 on the CPU.
    ///
    /// # Errors
    /// Frames that the recipe cannot take.
    pub(crate) fn prepare(&self, frames: &Frames) -> Result<Prepared> {
        let (raw, grid) = (raw(frames)?, self.grid(frames)?);
        let pixels = match self {
            Self::Clip(recipe) => recipe.pixels(&raw)?,
            Self::LlavaHound(side) => llava_hound(&raw, *side)?,
            Self::Patches(recipe) => recipe.patches(&raw, grid)?,
        };
        Ok(Prepared { pixels, grid })
    }
}

impl ClipRecipe {
    fn with(mut self, file: &ProcessorFile) -> std::result::Result<Self, String> {
        let crop = if file.crops() { file.crop_size()? } else { None };
        self.resize = match file.exact_size() {
            Some(size) => Resize::Exact(size),
            None => Resize::ShortSide(file.short_side().unwrap_or(self.crop)),
        };
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
        self.normal = file.normal(self.normal);
        Ok(self)
    }

    fn pixels(&self, raw: &Tensor) -> Result<Tensor> {
        let target = match self.resize {
            Resize::ShortSide(side) => short_side(raw, side),
            Resize::Exact(size) => size,
        };
        let scaled = match raw.size()[2..] == target {
            true => raw.shallow_clone(),
            false if self.bilinear => raw.f_internal_upsample_bilinear2d_aa(target, false, None, None)?,
            false => raw.f_internal_upsample_bicubic2d_aa(target, false, None, None)?,
        };
        normalised(&centre_crop(&scaled, self.crop)?, &self.normal)
    }
}

/// `[frames, 3, height, width]` of 8 bits.
fn raw(frames: &Frames) -> Result<Tensor> {
    let (height, width) = (i64::from(frames.height), i64::from(frames.width));
    let count = frames.len() as i64;
    if frames.is_empty() || frames.rgb.len() as i64 != count * height * width * 3 {
        return Err(TorchError::Prompt(format!(
            "{} bytes are not {count} RGB frames of {width}x{height}",
            frames.rgb.len()
        )));
    }
    let raw = Tensor::f_from_data_size(&frames.rgb, &[count, height, width, 3], Kind::Uint8)?;
    Ok(raw.f_permute([0, 3, 1, 2])?.f_contiguous()?)
}

/// `(x - 255 mean) / (255 std)` of 8-bit values, in float32.
fn normalised(raw: &Tensor, normal: &Normal) -> Result<Tensor> {
    let (mean, std) = (channels(&normal.mean, 255.0)?, channels(&normal.std, 255.0)?);
    Ok(raw.f_to_kind(Kind::Float)?.f_sub(&mean)?.f_div(&std)?)
}

fn llava_hound(raw: &Tensor, size: i64) -> Result<Tensor> {
    let unit = raw.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
    let normal = unit.f_sub(&channels(&MEAN, 1.0)?)?.f_div(&channels(&STD, 1.0)?)?;
    let (height, width) = (raw.size()[2] as f64, raw.size()[3] as f64);
    // pytorchvideo's ShortSideScale divides in floating point.
    let long = |long: f64, short: f64| (long / short * size as f64).floor() as i64;
    let target = if width < height { [long(height, width), size] } else { [size, long(width, height)] };
    let scaled = normal.f_upsample_bilinear2d(target, false, None, None)?;
    // torchvision's CenterCropVideo rounds halves to even numbers, as Python does.
    let start = |side: i64| ((side - size) as f64 / 2.0).round_ties_even() as i64;
    Ok(scaled.f_narrow(2, start(target[0]), size)?.f_narrow(3, start(target[1]), size)?)
}

/// `[height, width]` with the short side equal to `size` and the long side truncated.
fn short_side(raw: &Tensor, size: i64) -> [i64; 2] {
    let (height, width) = (raw.size()[2], raw.size()[3]);
    match height <= width {
        true => [size, size * width / height],
        false => [size * height / width, size],
    }
}

fn centre_crop(image: &Tensor, size: i64) -> Result<Tensor> {
    let (height, width) = (image.size()[2], image.size()[3]);
    let (top, left) = ((height - size) / 2, (width - size) / 2);
    Ok(image.f_narrow(2, top, size)?.f_narrow(3, left, size)?)
}

fn channels(values: &[f64; 3], scale: f64) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|value| (value * scale) as f32).collect();
    Ok(Tensor::f_from_slice(&values)?.f_view([1, 3, 1, 1])?.f_to_device(Device::Cpu)?)
}
