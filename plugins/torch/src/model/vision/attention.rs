//! Self-attention of vision transformers that attend within a frame.

use tch::Tensor;

use crate::error::Result;
use crate::model::layers::{Linear, RmsNorm};
use crate::model::product::{self, Mask};
use crate::model::weights::Weights;

/// Multi-head self-attention with separate projections.
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    /// Norms of queries and keys over all heads (InternViT-6B).
    norms: Option<[RmsNorm; 2]>,
}

impl Attention {
    /// Takes the projections `{name}.{q_proj, k_proj, v_proj}` and `{name}.{out}`.
    pub(super) fn new(weights: &Weights, name: &str, out: &str) -> Result<Self> {
        let linear = |part: &str| Linear::new(weights, &format!("{name}.{part}"));
        Ok(Self {
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            out: linear(out)?,
            norms: None,
        })
    }

    /// Adds norms of queries and keys.
    pub(super) fn with_norms(self, query: RmsNorm, key: RmsNorm) -> Self {
        Self { norms: Some([query, key]), ..self }
    }

    /// Computes self-attention within each row, `[rows, tokens, width]`.
    pub(super) fn forward(&self, x: &Tensor, heads: i64) -> Result<Tensor> {
        let (rows, tokens, width) = x.size3()?;
        let split = |t: Tensor| -> Result<Tensor> {
            Ok(t.f_view([rows, tokens, heads, width / heads])?.f_transpose(1, 2)?)
        };
        let (mut query, mut key) = (self.query.forward(x)?, self.key.forward(x)?);
        if let Some([of_queries, of_keys]) = &self.norms {
            (query, key) = (of_queries.forward(&query)?, of_keys.forward(&key)?);
        }
        let (query, key) = (split(query)?, split(key)?);
        let value = split(self.value.forward(x)?)?;
        let attended = product::attention(&query, &key, &value, Mask::Full)?;
        self.out.forward(&attended.f_transpose(1, 2)?.f_reshape([rows, tokens, width])?)
    }
}
