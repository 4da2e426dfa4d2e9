//! InternViT (arXiv 2312.14238), as `InternVLVisionModel` of transformers 5 computes it, with the pixel shuffle of
//! `InternVLModel` behind it.

use tch::Tensor;

use super::attention::Attention;
use super::intern_config::InternVision;
use super::norm::Norm;
use crate::error::Result;
use crate::model::layers::{LayerNorm, Linear, RmsNorm};
use crate::model::product;
use crate::model::weights::Weights;

/// Epsilon of the norms of queries and keys, a constant in transformers 5.
const EPS: f64 = 1e-6;

/// Transformer layer whose branches are scaled by learned vectors (layer scale, arXiv 2103.17239).
struct Layer {
    norm1: Norm,
    attention: Attention,
    scale1: Tensor,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
    scale2: Tensor,
}

impl Layer {
    fn new(weights: &Weights, name: &str, config: &InternVision) -> Result<Self> {
        let at = |part: &str| format!("{name}.{part}");
        let norm =
            |part: &str| Norm::with_eps(weights, &at(part), config.has_rms_norm, config.layer_norm_eps);
        let attention = Attention::new(weights, &at("attention"), "projection_layer")?;
        let attention = match config.use_qk_norm {
            true => attention.with_norms(
                RmsNorm::new(weights, &at("attention.q_norm"), EPS)?,
                RmsNorm::new(weights, &at("attention.k_norm"), EPS)?,
            ),
            false => attention,
        };
        Ok(Self {
            norm1: norm("layernorm_before")?,
            attention,
            scale1: weights.get(&at("lambda_1"))?,
            norm2: norm("layernorm_after")?,
            fc1: Linear::new(weights, &at("mlp.fc1"))?,
            fc2: Linear::new(weights, &at("mlp.fc2"))?,
            scale2: weights.get(&at("lambda_2"))?,
        })
    }

    fn forward(&self, x: &Tensor, config: &InternVision) -> Result<Tensor> {
        let attended = self.attention.forward(&self.norm1.forward(x)?, config.num_attention_heads)?;
        let x = x.f_add(&attended.f_mul(&self.scale1)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&x)?)?;
        let hidden = self.fc2.forward(&config.hidden_act.forward(&hidden)?)?;
        Ok(x.f_add(&hidden.f_mul(&self.scale2)?)?)
    }
}

/// InternViT up to its feature layer.
pub(crate) struct InternTower {
    class_token: Tensor,
    patch_embedding: Tensor,
    patch_bias: Tensor,
    positions: Option<Tensor>,
    layers: Vec<Layer>,
    norm: Option<LayerNorm>,
    config: InternVision,
}

impl InternTower {
    /// Takes the tower's tensors from `weights`.
    pub(crate) fn new(weights: &Weights, config: &InternVision) -> Result<Self> {
        let at = |name: &str| format!("{}{name}", InternVision::PREFIX);
        let layer = |index: i64| Layer::new(weights, &at(&format!("encoder.layer.{index}")), config);
        let norm = || LayerNorm::new(weights, &at("layernorm"), config.layer_norm_eps);
        Ok(Self {
            class_token: weights.get(&at("embeddings.cls_token"))?,
            patch_embedding: weights.get(&at("embeddings.patch_embeddings.projection.weight"))?,
            patch_bias: weights.get(&at("embeddings.patch_embeddings.projection.bias"))?,
            positions: weights.find(&at("embeddings.position_embeddings")),
            layers: (0..config.feature_layer).map(layer).collect::<Result<_>>()?,
            norm: config.applies_last_norm().then(norm).transpose()?,
            config: config.clone(),
        })
    }

    /// Computes features `[frames, tokens, width]` from pixels `[frames, 3, size, size]`: the class token is dropped,
    /// and each square of patches is concatenated, row by row, to one feature.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let (frames, width) = (pixels.size()[0], self.config.hidden_size);
        let patches = product::convolution(pixels, &self.patch_embedding, self.config.patch_size)?;
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?.f_add(&self.patch_bias)?;
        let class = self.class_token.f_expand([frames, 1, width], false)?;
        let mut x = Tensor::f_cat(&[&class, &patches], 1)?;
        if let Some(positions) = &self.positions {
            x = x.f_add(positions)?;
        }
        for layer in &self.layers {
            x = layer.forward(&x, &self.config)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        let (side, square) = (self.config.side(), self.config.shuffle);
        let patches = x.f_narrow(1, 1, side * side)?;
        let cut = [frames, side / square, square, side / square, square, width];
        let squares = patches.f_reshape(cut)?.f_permute([0, 1, 3, 2, 4, 5])?;
        Ok(squares.f_reshape([frames, self.config.tokens(), self.config.width()])?)
    }
}
