//! Channel normalisation of pixels.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// CLIP's channel means, of values in [0, 1].
pub(crate) const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// CLIP's channel standard deviations, of values in [0, 1].
pub(crate) const STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// Channel means and standard deviations of values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Normalization {
    pub(crate) mean: [f64; 3],
    pub(crate) std: [f64; 3],
}

impl Normalization {
    /// CLIP's statistics.
    pub(crate) const CLIP: Self = Self { mean: MEAN, std: STD };

    /// Normalises 8-bit pixels `[frames, 3, height, width]` to float32: `(x - 255 mean) / (255 std)`, as the
    /// processors of transformers 5 fuse rescaling and normalisation.
    pub(super) fn of_bytes(&self, raw: &Tensor) -> Result<Tensor> {
        let (mean, std) = (channels(&self.mean, 255.0)?, channels(&self.std, 255.0)?);
        Ok(raw.f_to_kind(Kind::Float)?.f_sub(&mean)?.f_div(&std)?)
    }

    /// Normalises float32 pixels in [0, 1]: `(x - mean) / std`.
    pub(super) fn of_unit(&self, unit: &Tensor) -> Result<Tensor> {
        Ok(unit.f_sub(&channels(&self.mean, 1.0)?)?.f_div(&channels(&self.std, 1.0)?)?)
    }

    /// Identity text of the statistics, see [`super::ImageProcessor::identity`].
    pub(super) fn identity(&self) -> String {
        format!("Normal {{ mean: {:?}, std: {:?} }}", self.mean, self.std)
    }
}

fn channels(values: &[f64; 3], scale: f64) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|value| (value * scale) as f32).collect();
    Ok(Tensor::f_from_slice(&values)?.f_view([1, 3, 1, 1])?.f_to_device(Device::Cpu)?)
}
