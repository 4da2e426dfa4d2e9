//! LoRA adapter of one linear layer.

use std::sync::Arc;

use tch::Tensor;

use super::dropout::Dropout;
use crate::error::Result;
use crate::model::product;

/// Low-rank update `scale * B A dropout(x)` of a linear layer.
pub(crate) struct Lora {
    /// `[rank, in]`, float32.
    pub(super) a: Tensor,
    /// `[out, rank]`, float32.
    pub(super) b: Tensor,
    pub(super) scale: f64,
    pub(super) dropout: Arc<Dropout>,
    /// Distinguishes the layer's dropout masks from those of other layers.
    pub(super) salt: u64,
}

impl Lora {
    /// Returns `A` `[rank, in]` and `scale * B` `[out, rank]` in float32, without dropout.
    pub(crate) fn matrices(&self) -> Result<[Tensor; 2]> {
        Ok([self.a.f_detach()?, self.b.f_detach()?.f_mul_scalar(self.scale)?])
    }

    /// Computes the update of the layer's output `[.., out]` for inputs `[.., in]`. Matrices are stored in float32 and
    /// converted to the dtype of `x`, so that training in bfloat16 keeps no float32 activations.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.kind();
        let low = product::linear(&self.dropout.apply(x, self.salt)?, &self.a.f_to_kind(kind)?, None)?;
        let high = product::linear(&low, &self.b.f_to_kind(kind)?, None)?;
        Ok(high.f_mul_scalar(self.scale)?)
    }
}
