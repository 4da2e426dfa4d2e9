//! Normalisation layers of Qwen-VL's vision transformers.

use tch::Tensor;

use crate::error::Result;
use crate::model::layers::{LayerNorm, RmsNorm};
use crate::model::weights::Weights;

/// Epsilon of both norms, a constant in transformers 5.
const EPS: f64 = 1e-6;

/// RMSNorm (Qwen2.5-VL) or LayerNorm (Qwen3-VL).
pub(super) enum Norm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl Norm {
    /// Takes the norm `name`: RMSNorm if `rms`, otherwise LayerNorm.
    pub(super) fn new(weights: &Weights, name: &str, rms: bool) -> Result<Self> {
        Ok(match rms {
            true => Self::Rms(RmsNorm::new(weights, name, EPS)?),
            false => Self::Layer(LayerNorm::new(weights, name, EPS)?),
        })
    }

    /// Normalises the last axis.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Rms(norm) => norm.forward(x),
            Self::Layer(norm) => norm.forward(x),
        }
    }
}
