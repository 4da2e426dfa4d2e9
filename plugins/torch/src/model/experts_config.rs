//! Sparse experts of a decoder's MLPs, as `text_config` describes them (Qwen3-VL MoE).

use serde::Deserialize;
use serde_json::Value;

use super::section::{LAYERS, WIDTH, check_sizes};

/// Mixture of experts (arXiv 1701.06538): which layers have it instead of a SwiGLU layer, and its shape.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ExpertsConfig {
    /// Number of experts in a layer.
    #[serde(rename = "num_local_experts")]
    pub(crate) count: i64,
    /// Number of experts that a token goes through.
    #[serde(rename = "num_experts_per_tok")]
    pub(crate) per_token: i64,
    /// Intermediate size of an expert.
    #[serde(rename = "moe_intermediate_size")]
    pub(crate) inner: i64,
    /// Every how many layers one is sparse; the last of so many is.
    decoder_sparse_step: i64,
    /// Layers with a SwiGLU layer all the same.
    #[serde(default)]
    mlp_only_layers: Vec<i64>,
}

/// Orientation of the stored weights of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orientation {
    /// `[experts, out, in]`, as transformers 5 computes and saves them.
    OutputFirst,
    /// `[experts, in, out]`, as Qwen's released files have them.
    InputFirst,
}

impl ExpertsConfig {
    /// Parses the keys of a section merged with defaults. Files of transformers 4 and 5 name the number of experts
    /// `num_experts` and `num_local_experts`.
    pub(super) fn parse(merged: &Value) -> Result<Self, String> {
        let mut own = merged.clone();
        if let Value::Object(entries) = &mut own
            && let Some(count) = entries.remove("num_experts")
        {
            entries.entry("num_local_experts").or_insert(count);
        }
        let config: Self = serde_json::from_value(own).map_err(|error| format!("text_config: {error}"))?;
        check_sizes(
            super::text_config::SECTION,
            &[
                ("num_experts", config.count, 1..=1 << 14),
                ("num_experts_per_tok", config.per_token, 1..=config.count),
                ("moe_intermediate_size", config.inner, WIDTH),
                ("decoder_sparse_step", config.decoder_sparse_step, LAYERS),
            ],
        )?;
        Ok(config)
    }

    /// Returns whether a layer is sparse.
    pub(crate) fn in_layer(&self, layer: i64) -> bool {
        !self.mlp_only_layers.contains(&layer) && (layer + 1) % self.decoder_sparse_step == 0
    }

    /// Returns how many of so many parameters of all experts a token does not go through.
    pub(crate) fn idle(&self, parameters: u64) -> u64 {
        let (count, per_token) = (self.count.unsigned_abs(), self.per_token.unsigned_abs());
        parameters / count * (count - per_token)
    }

    /// Returns the shapes of the gate and up projections, side by side, and of the down projections, for a decoder of width
    /// `hidden`.
    pub(crate) fn shapes(&self, hidden: i64, orientation: Orientation) -> [Vec<i64>; 2] {
        let both = [[2 * self.inner, hidden], [hidden, self.inner]];
        both.map(|[out, input]| match orientation {
            Orientation::OutputFirst => vec![self.count, out, input],
            Orientation::InputFirst => vec![self.count, input, out],
        })
    }

    /// Returns the orientation of tensors of the given shapes: that of transformers 5, unless they fit the other alone.
    pub(crate) fn orientation(&self, hidden: i64, shapes: [&[i64]; 2]) -> Orientation {
        let fit = |orientation| self.shapes(hidden, orientation).iter().zip(shapes).all(|(a, b)| a == b);
        match !fit(Orientation::OutputFirst) && fit(Orientation::InputFirst) {
            true => Orientation::InputFirst,
            false => Orientation::OutputFirst,
        }
    }
}
