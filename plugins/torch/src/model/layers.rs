//! Linear and normalisation layers.

use tch::Tensor;

use super::linear_weight::LinearWeight;
use super::weights::Weights;
use crate::error::Result;
use crate::lora::Lora;

/// Linear layer `x W^T + b` with optional bias and optional LoRA adapter.
pub(crate) struct Linear {
    weight: LinearWeight,
    bias: Option<Tensor>,
    lora: Option<Lora>,
}

impl Linear {
    /// Takes `{name}.weight`, `{name}.bias` if it exists, and the adapter of `name`.
    pub(crate) fn new(weights: &Weights, name: &str) -> Result<Self> {
        Self::with_weight(weights, name, weights.linear(&format!("{name}.weight"))?)
    }

    /// Takes another tensor as the weight of the layer `name`: the embedding as a tied output layer.
    pub(crate) fn with_weight(weights: &Weights, name: &str, weight: LinearWeight) -> Result<Self> {
        let lora = weights.lora(name, &weight)?;
        Ok(Self { weight, bias: weights.find(&format!("{name}.bias")), lora })
    }

    /// Applies the layer to `[.., in]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref();
        match &self.lora {
            Some(lora) => lora.adapted(x, &self.weight, bias),
            None => self.weight.linear(x, bias),
        }
    }
}

/// Layer normalisation with weight and bias.
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Takes `{name}.weight` and `{name}.bias`.
    pub(crate) fn new(weights: &Weights, name: &str, eps: f64) -> Result<Self> {
        let part = |part: &str| weights.get(&format!("{name}.{part}"));
        Ok(Self { weight: part("weight")?, bias: part("bias")?, eps })
    }

    /// Normalises the last axis of `[.., width]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let shape = self.weight.size();
        Ok(x.f_layer_norm(shape.as_slice(), Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

/// Root-mean-square normalisation (arXiv 1910.07467) with weight.
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Takes `{name}.weight`.
    pub(crate) fn new(weights: &Weights, name: &str, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get(&format!("{name}.weight"))?, eps })
    }

    /// Normalises the last axis of `[.., width]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.size();
        Ok(x.f_rms_norm(width.as_slice(), Some(&self.weight), self.eps)?)
    }
}
