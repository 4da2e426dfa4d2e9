//! Patch merger of Qwen-VL: projects squares of patches to features of the decoder's width.

use tch::Tensor;

use super::norm::Norm;
use crate::error::Result;
use crate::model::layers::Linear;
use crate::model::weights::Weights;

/// Patch merger: norm, concatenation of a square of patches, linear, GELU, linear. DeepStack mergers concatenate
/// before the norm.
pub(super) struct Merger {
    norm: Norm,
    norm_after: bool,
    first: Linear,
    second: Linear,
    /// Width of a concatenated square of patches.
    width: i64,
}

impl Merger {
    /// Takes the norm and the two layers by their names under `prefix`.
    pub(super) fn new(
        weights: &Weights,
        prefix: &str,
        [norm, first, second]: [&str; 3],
        rms: bool,
        norm_after: bool,
        width: i64,
    ) -> Result<Self> {
        let linear = |part: &str| Linear::new(weights, &format!("{prefix}.{part}"));
        let norm = Norm::new(weights, &format!("{prefix}.{norm}"), rms)?;
        Ok(Self { norm, norm_after, first: linear(first)?, second: linear(second)?, width })
    }

    /// Merges `[patches, hidden]` to `[patches / square, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = match self.norm_after {
            true => self.norm.forward(&x.f_reshape([-1, self.width])?)?,
            false => self.norm.forward(x)?.f_reshape([-1, self.width])?,
        };
        self.second.forward(&self.first.forward(&x)?.f_gelu("none")?)
    }
}
