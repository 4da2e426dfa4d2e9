//! The adapter of one linear layer.

use std::sync::Arc;

use tch::Tensor;

use super::dropout::Dropout;
use crate::error::Result;
use crate::model::product;

/// `x -> scale * B A dropout(x)`, beside a layer's own `W x`.
pub(crate) struct Lora {
    /// `[rank, in]`, float32.
    pub(super) a: Tensor,
    /// `[out, rank]`, float32.
    pub(super) b: Tensor,
    pub(super) scale: f64,
    pub(super) dropout: Arc<Dropout>,
    /// Tells the layer's dropout from that of others.
    pub(super) salt: u64,
}

impl Lora {
    /// What is added to the layer's output for inputs `[.., in]`. The adapter is float32 in storage, and
    /// computes in the type of `x`, so that training in bfloat16 keeps no float32 activations.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.kind();
        let low = product::linear(&self.dropout.apply(x, self.salt)?, &self.a.f_to_kind(kind)?, None)?;
        let high = product::linear(&low, &self.b.f_to_kind(kind)?, None)?;
        Ok(high.f_mul_scalar(self.scale)?)
    }
}
