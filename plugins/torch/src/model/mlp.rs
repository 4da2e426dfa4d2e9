//! MLP of a decoder layer: SwiGLU (arXiv 2002.05202), or sparse experts.

use tch::Tensor;

use super::activation::Activation;
use super::experts::Experts;
use super::layers::Linear;
use super::text_config::TextConfig;
use super::weights::Weights;
use crate::error::Result;

/// MLP of a decoder layer.
#[allow(clippy::large_enum_variant, reason = "there is one a layer")]
pub(super) enum Mlp {
    /// SwiGLU.
    Dense { gate: Linear, up: Linear, down: Linear, activation: Activation },
    /// Experts, of which each token goes through a few.
    Sparse(Experts),
}

impl Mlp {
    /// Takes the tensors of layer `index` by their names under `prefix`.
    pub(super) fn new(weights: &Weights, prefix: &str, config: &TextConfig, index: i64) -> Result<Self> {
        let activation = config.hidden_act;
        if let Some(experts) = config.experts_of(index) {
            return Ok(Self::Sparse(Experts::new(weights, prefix, experts, activation)?));
        }
        let linear = |name: &str| Linear::new(weights, &format!("{prefix}.{name}"));
        Ok(Self::Dense {
            gate: linear("gate_proj")?,
            up: linear("up_proj")?,
            down: linear("down_proj")?,
            activation,
        })
    }

    /// Applies the layer to `[batch, length, hidden]`; if `apart`, so that no row's bits depend on the others.
    pub(super) fn forward(&self, x: &Tensor, apart: bool) -> Result<Tensor> {
        match self {
            Self::Dense { gate, up, down, activation } => {
                let gate = activation.forward(&gate.forward(x)?)?;
                down.forward(&gate.f_mul(&up.forward(x)?)?)
            }
            Self::Sparse(experts) if apart => experts.forward_rows(x),
            Self::Sparse(experts) => experts.forward(x),
        }
    }
}
