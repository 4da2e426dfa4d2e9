//! Weight of a linear layer: a tensor, or quantised.

use tch::Tensor;

use super::nf4::Nf4;
use super::product;
use crate::error::Result;

/// Weight `[out, in]` of a linear layer.
pub(crate) enum LinearWeight {
    /// Tensor of the model's dtype.
    Dense(Tensor),
    /// Weight in 4 bits.
    Nf4(Nf4),
    /// Weights in 4 bits of layers with one input, one below the other.
    Stacked(Vec<Nf4>),
}

impl LinearWeight {
    /// Returns the shape.
    pub(crate) fn shape(&self) -> Result<[i64; 2]> {
        match self {
            Self::Dense(weight) => Ok(weight.size2()?.into()),
            Self::Nf4(weight) => Ok(weight.shape()),
            Self::Stacked(parts) => {
                let rows = parts.iter().map(|part| part.shape()[0]).sum();
                Ok([rows, parts.first().map_or(0, |part| part.shape()[1])])
            }
        }
    }

    /// Returns the dense weight, decoded anew if it is quantised.
    pub(crate) fn dense(&self) -> Result<Tensor> {
        match self {
            Self::Dense(weight) => Ok(weight.shallow_clone()),
            Self::Nf4(weight) => weight.decoded(),
            Self::Stacked(parts) => {
                let parts = parts.iter().map(Nf4::decoded).collect::<Result<Vec<_>>>()?;
                Ok(Tensor::f_cat(&parts, 0)?)
            }
        }
    }

    /// Computes `x W^T + b` for `x` `[.., in]`.
    pub(crate) fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::Nf4(weight) => weight.linear(x, bias),
            other => product::linear(x, &other.dense()?, bias),
        }
    }
}
