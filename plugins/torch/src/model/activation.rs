//! Activation functions, by their names in `config.json`.

use serde::Deserialize;
use tch::Tensor;

use crate::error::Result;

/// Activation function (`hidden_act` of a config).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activation {
    /// Sigmoid approximation of GELU, `x * sigmoid(1.702 x)`, of OpenAI's CLIP.
    QuickGelu,
    /// GELU, `x * Phi(x)` (arXiv 1606.08415).
    Gelu,
    /// Tanh approximation of GELU.
    #[serde(alias = "gelu_new", alias = "gelu_fast")]
    GeluPytorchTanh,
    /// ReLU, `max(x, 0)`.
    Relu,
    /// SiLU, `x * sigmoid(x)`.
    #[serde(alias = "swish")]
    Silu,
}

impl Activation {
    /// Applies the function to each element.
    pub(crate) fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::QuickGelu => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            Self::Gelu => x.f_gelu("none")?,
            Self::GeluPytorchTanh => x.f_gelu("tanh")?,
            Self::Relu => x.f_relu()?,
            Self::Silu => x.f_silu()?,
        })
    }
}
