//! From decoded frames to the tower's pixels.
//!
//! Two recipes, since the two lineages differ in order and filter:
//! - `clip`: `CLIPImageProcessor` of transformers 5 (torchvision backend): short side to the target by
//!   bicubic interpolation with antialiasing on 8-bit values, centre crop (floor), then
//!   `(x - 255 mean) / (255 std)`.
//! - `llava_hound`: LanguageBind's video transform as LLaVA-Hound uses it: to [0, 1], normalise, short
//!   side to the target by bilinear interpolation without antialiasing in float, centre crop.

use isr_core::Frames;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};

/// CLIP's channel means, of values in [0, 1].
pub(crate) const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// CLIP's channel standard deviations.
pub(crate) const STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// Which transform makes pixels of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preprocess {
    /// transformers' `CLIPImageProcessor`.
    #[default]
    Clip,
    /// LanguageBind's transform, as LLaVA-Hound and ISR-DPO apply it.
    LlavaHound,
}

/// Pixels `[frames, 3, size, size]` in float32 on the CPU.
pub(crate) fn pixels(frames: &Frames, size: i64, recipe: Preprocess) -> Result<Tensor> {
    let (height, width) = (i64::from(frames.height), i64::from(frames.width));
    let count = frames.len() as i64;
    if frames.is_empty() || frames.rgb.len() as i64 != count * height * width * 3 {
        return Err(TorchError::Prompt(format!(
            "{} bytes are not {count} RGB frames of {width}x{height}",
            frames.rgb.len()
        )));
    }
    let raw = Tensor::f_from_data_size(&frames.rgb, &[count, height, width, 3], Kind::Uint8)?;
    let raw = raw.f_permute([0, 3, 1, 2])?.f_contiguous()?;
    match recipe {
        Preprocess::Clip => clip(&raw, size),
        Preprocess::LlavaHound => llava_hound(&raw, size),
    }
}

fn clip(raw: &Tensor, size: i64) -> Result<Tensor> {
    let target = short_side(raw, size);
    let unchanged = raw.size()[2..] == target;
    let scaled = match unchanged {
        true => raw.shallow_clone(),
        false => raw.f_internal_upsample_bicubic2d_aa(target, false, None, None)?,
    };
    let cropped = centre_crop(&scaled, size)?.f_to_kind(Kind::Float)?;
    let (mean, std) = (channels(&MEAN, 255.0)?, channels(&STD, 255.0)?);
    Ok(cropped.f_sub(&mean)?.f_div(&std)?)
}

fn llava_hound(raw: &Tensor, size: i64) -> Result<Tensor> {
    let unit = raw.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
    let normal = unit.f_sub(&channels(&MEAN, 1.0)?)?.f_div(&channels(&STD, 1.0)?)?;
    let scaled = normal.f_upsample_bilinear2d(short_side(raw, size), false, None, None)?;
    centre_crop(&scaled, size)
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
