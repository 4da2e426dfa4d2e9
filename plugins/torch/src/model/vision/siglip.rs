//! SigLIP's vision transformer (arXiv 2303.15343), as `SiglipVisionModel` of transformers 5 computes it: CLIP's layers
//! without class token and first norm.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use tch::Tensor;

use super::clip::Layer;
use crate::error::{Result, TorchError};
use crate::model::activation::Activation;
use crate::model::product;
use crate::model::projector::ProjectorConfig;
use crate::model::weights::Weights;

/// Keys of `vision_config` of a SigLIP tower.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SiglipShape {
    /// Width of the residual stream (hidden size).
    pub(crate) hidden_size: i64,
    /// Intermediate size of the MLP.
    pub(crate) intermediate_size: i64,
    /// Number of layers in the checkpoint; those above the last feature layer are not run.
    pub(crate) num_hidden_layers: i64,
    /// Number of attention heads.
    pub(crate) num_attention_heads: i64,
    /// Side of the square input in pixels.
    pub(crate) image_size: i64,
    /// Side of a patch in pixels.
    pub(crate) patch_size: i64,
    /// Epsilon of LayerNorm.
    pub(crate) layer_norm_eps: f64,
    /// Activation of the MLP.
    pub(crate) hidden_act: Activation,
}

/// SigLIP tower and the projector behind it.
///
/// The `Debug` form is part of the encoder's fingerprint and must not change.
#[derive(Clone)]
pub(crate) struct SiglipVision {
    /// Shape of the tower.
    pub(crate) shape: SiglipShape,
    /// Indices of the hidden states that are concatenated to features; 0 is the embedding.
    pub(crate) feature_layers: Vec<i64>,
    /// Shape of the projector.
    pub(crate) projector: ProjectorConfig,
}

impl fmt::Debug for SiglipVision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Features do not depend on the projector.
        let mut all = formatter.debug_struct("SiglipVision");
        all.field("shape", &self.shape)
            .field("feature_layers", &self.feature_layers)
            .finish_non_exhaustive()
    }
}

impl SiglipVision {
    /// Prefix of the tower's tensors, dot included.
    pub(crate) const PREFIX: &'static str = "vision_tower.";

    /// Returns the number of patches along a side of a frame.
    pub(crate) fn side(&self) -> i64 {
        self.shape.image_size / self.shape.patch_size
    }

    /// Returns the width of a feature.
    pub(crate) fn width(&self) -> i64 {
        self.shape.hidden_size * self.feature_layers.len() as i64
    }

    /// Returns the number of embeddings along a side of a frame in the prompt.
    pub(crate) fn prompt_side(&self) -> i64 {
        self.projector.pool.map_or(self.side(), |(pool, side)| pool.side(side))
    }

    /// Adds names and shapes of the tower's tensors.
    pub(crate) fn tensors(&self, all: &mut HashMap<String, Vec<i64>>) {
        let SiglipShape { hidden_size: width, intermediate_size: inner, patch_size: patch, .. } =
            self.shape;
        let mut add =
            |name: &str, shape: &[i64]| all.insert(format!("{}{name}", Self::PREFIX), shape.to_vec());
        add("embeddings.patch_embedding.weight", &[width, 3, patch, patch]);
        add("embeddings.patch_embedding.bias", &[width]);
        add("embeddings.position_embedding.weight", &[self.side().pow(2), width]);
        add("post_layernorm.weight", &[width]);
        add("post_layernorm.bias", &[width]);
        let linear = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|part| format!("self_attn.{part}"));
        let mut parts: Vec<(String, Vec<i64>)> =
            linear.into_iter().map(|name| (name, vec![width, width])).collect();
        parts.push(("mlp.fc1".to_owned(), vec![inner, width]));
        parts.push(("mlp.fc2".to_owned(), vec![width, inner]));
        parts.extend(["layer_norm1", "layer_norm2"].map(|name| (name.to_owned(), vec![width])));
        for layer in 0..self.shape.num_hidden_layers {
            for (name, shape) in &parts {
                add(&format!("encoder.layers.{layer}.{name}.weight"), shape);
                add(&format!("encoder.layers.{layer}.{name}.bias"), &shape[..1]);
            }
        }
    }
}

/// SigLIP tower up to its last feature layer.
pub(crate) struct SiglipTower {
    patch_embedding: Tensor,
    patch_bias: Tensor,
    position_embedding: Tensor,
    layers: Vec<Layer>,
    config: SiglipVision,
}

impl SiglipTower {
    /// Takes the tower's tensors from `weights`.
    pub(crate) fn new(weights: &Weights, config: &SiglipVision) -> Result<Self> {
        let prefix = SiglipVision::PREFIX;
        let get = |name: &str| weights.get(&format!("{prefix}embeddings.{name}"));
        let layer = |index: i64| {
            let name = format!("{prefix}encoder.layers.{index}");
            Layer::new(weights, &name, config.shape.layer_norm_eps, false)
        };
        Ok(Self {
            patch_embedding: get("patch_embedding.weight")?,
            patch_bias: get("patch_embedding.bias")?,
            position_embedding: get("position_embedding.weight")?,
            layers: (0..config.feature_layers.iter().copied().max().unwrap_or(0))
                .map(layer)
                .collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Computes features `[frames, patches, width]` from pixels `[frames, 3, size, size]`. No norm follows the last
    /// layer.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let SiglipShape { num_attention_heads: heads, hidden_act: act, patch_size: patch, .. } =
            self.config.shape;
        let patches = product::convolution(pixels, &self.patch_embedding, patch)?;
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?.f_add(&self.patch_bias)?;
        let mut states = vec![patches.f_add(&self.position_embedding)?];
        for (index, layer) in self.layers.iter().enumerate() {
            states.push(layer.forward(&states[index], heads, act)?);
        }
        let taken = self.config.feature_layers.iter().map(|&layer| &states[layer as usize]);
        match self.config.feature_layers.as_slice() {
            [_] => states.pop().ok_or_else(|| TorchError::Engine("a tower without states".to_owned())),
            _ => Ok(Tensor::f_cat(&taken.collect::<Vec<_>>(), 2)?),
        }
    }
}
