//! Normalisation layers of vision transformers that have one or the other.

use tch::Tensor;

use crate::error::Result;
use crate::model::layers::{LayerNorm, RmsNorm};
use crate::model::weights::Weights;

/// Epsilon of both norms of Qwen-VL, a constant in transformers 5.
const EPS: f64 = 1e-6;

/// RMSNorm (Qwen2.5-VL, InternViT-6B) or LayerNorm (Qwen3-VL, InternViT-300M).
pub(super) enum Norm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl Norm {
    /// Takes the norm `name` of a Qwen-VL tower: RMSNorm if `rms`, otherwise LayerNorm.
    pub(super) fn new(weights: &Weights, name: &str, rms: bool) -> Result<Self> {
        Self::with_eps(weights, name, rms, EPS)
    }

    /// Takes the norm `name` with an epsilon of its own.
    pub(super) fn with_eps(weights: &Weights, name: &str, rms: bool, eps: f64) -> Result<Self> {
        Ok(match rms {
            true => Self::Rms(RmsNorm::new(weights, name, eps)?),
            false => Self::Layer(LayerNorm::new(weights, name, eps)?),
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
