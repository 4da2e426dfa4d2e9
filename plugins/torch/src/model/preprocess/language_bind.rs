//! LanguageBind's video transform (arXiv 2310.01852), as LLaVA-Hound and ISR-DPO apply it: rescale to [0, 1],
//! normalise, resize the short side bilinearly without antialiasing in float, centre crop with rounded offsets.

use tch::{Kind, Tensor};

use super::normalization::Normalization;
use crate::error::Result;

/// Preprocesses 8-bit frames `[frames, 3, height, width]` to float32 `[frames, 3, size, size]`.
pub(super) fn pixels(raw: &Tensor, size: i64) -> Result<Tensor> {
    let unit = raw.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
    let normal = Normalization::CLIP.of_unit(&unit)?;
    let (height, width) = (raw.size()[2] as f64, raw.size()[3] as f64);
    // pytorchvideo's ShortSideScale divides in floating point.
    let long = |long: f64, short: f64| (long / short * size as f64).floor() as i64;
    let target = if width < height { [long(height, width), size] } else { [size, long(width, height)] };
    let scaled = normal.f_upsample_bilinear2d(target, false, None, None)?;
    // torchvision's CenterCropVideo rounds halves to even numbers, as Python does.
    let start = |side: i64| ((side - size) as f64 / 2.0).round_ties_even() as i64;
    Ok(scaled.f_narrow(2, start(target[0]), size)?.f_narrow(3, start(target[1]), size)?)
}
