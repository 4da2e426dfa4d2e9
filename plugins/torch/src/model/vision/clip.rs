//! CLIP's vision transformer (arXiv 2103.00020), as `CLIPVisionModel` of transformers 5 computes it, and
//! LanguageBind's, which adds attention over time to each layer (arXiv 2310.01852).

use tch::Tensor;

use super::attention::Attention;
use super::clip_config::ClipVision;
use crate::error::{Result, TorchError};
use crate::model::activation::Activation;
use crate::model::layers::{LayerNorm, Linear};
use crate::model::product;
use crate::model::weights::Weights;

/// LanguageBind's attention over time with its temporal embedding.
struct Temporal {
    embedding: Tensor,
    norm: LayerNorm,
    attention: Attention,
}

impl Temporal {
    /// Computes attention of each token to the same patch in all frames, `[frames, tokens, width]`.
    fn forward(&self, x: &Tensor, heads: i64) -> Result<Tensor> {
        let frames = x.size()[0];
        let mut x = x.f_transpose(0, 1)?;
        if frames > 1 {
            x = x.f_add(&self.embedding.f_narrow(1, 0, frames)?)?;
        }
        let normed = self.norm.forward(&x)?;
        Ok(x.f_add(&self.attention.forward(&normed, heads)?)?.f_transpose(0, 1)?.f_contiguous()?)
    }
}

/// Transformer layer with norms before attention and MLP.
pub(super) struct Layer {
    temporal: Option<Temporal>,
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// CLIP tower up to its last feature layer.
pub(crate) struct ClipTower {
    class_embedding: Tensor,
    patch_embedding: Tensor,
    position_embedding: Tensor,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
    config: ClipVision,
}

impl ClipTower {
    /// Takes the tower's tensors from `weights`.
    pub(crate) fn new(weights: &Weights, config: &ClipVision) -> Result<Self> {
        let (prefix, eps) = (config.prefix, config.layer_norm_eps);
        let get = |name: &str| weights.get(&format!("{prefix}{name}"));
        Ok(Self {
            class_embedding: get("embeddings.class_embedding")?,
            patch_embedding: get("embeddings.patch_embedding.weight")?,
            position_embedding: get("embeddings.position_embedding.weight")?,
            pre_norm: LayerNorm::new(weights, &format!("{prefix}pre_layrnorm"), eps)?,
            layers: (0..config.feature_layers.iter().copied().max().unwrap_or(0))
                .map(|index| {
                    Layer::new(
                        weights,
                        &format!("{prefix}encoder.layers.{index}"),
                        eps,
                        config.add_time_attn,
                    )
                })
                .collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Returns whether a frame's features depend on other frames.
    pub(crate) fn attends_over_time(&self) -> bool {
        self.config.add_time_attn
    }

    /// Computes features `[frames, tokens, width]` from pixels `[frames, 3, size, size]`.
    ///
    /// # Errors
    /// More frames than attention over time supports.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let frames = pixels.size()[0];
        if self.config.add_time_attn && frames > self.config.num_frames {
            let most = self.config.num_frames;
            let text = format!("the video has {frames} frames, but the tower takes {most} at most");
            return Err(TorchError::Prompt(text));
        }
        let mut states = vec![self.pre_norm.forward(&self.embed(pixels)?)?];
        for (index, layer) in self.layers.iter().enumerate() {
            states.push(layer.forward(
                &states[index],
                self.config.num_attention_heads,
                self.config.hidden_act,
            )?);
        }
        let taken = self.config.feature_layers.iter().map(|&layer| &states[layer as usize]);
        let x = match self.config.feature_layers.as_slice() {
            [_] => states.pop().ok_or_else(|| TorchError::Engine("a tower without states".to_owned()))?,
            _ => Tensor::f_cat(&taken.collect::<Vec<_>>(), 2)?,
        };
        let patches = x.size()[1] - 1;
        match self.config.pool {
            Some(pool) => pool.forward(&x.f_narrow(1, 1, patches)?, self.config.side()),
            None if self.config.keeps_class_token => Ok(x),
            None => Ok(x.f_narrow(1, 1, patches)?),
        }
    }

    fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let patches = product::convolution(pixels, &self.patch_embedding, self.config.patch_size)?;
        let patches = patches.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let frames = pixels.size()[0];
        let width = self.class_embedding.size()[0];
        let class = self.class_embedding.f_view([1, 1, width])?.f_expand([frames, 1, width], false)?;
        Ok(Tensor::f_cat(&[&class, &patches], 1)?.f_add(&self.position_embedding)?)
    }
}

impl Layer {
    /// Takes the layer `name`, with attention over time if `with_time`.
    pub(super) fn new(weights: &Weights, name: &str, eps: f64, with_time: bool) -> Result<Self> {
        let norm = |part: &str| LayerNorm::new(weights, &format!("{name}.{part}"), eps);
        let attention = |part: &str| Attention::new(weights, &format!("{name}.{part}"), "out_proj");
        let temporal = || -> Result<Temporal> {
            Ok(Temporal {
                embedding: weights.get(&format!("{name}.temporal_embedding"))?,
                norm: norm("temporal_layer_norm1")?,
                attention: attention("temporal_attn")?,
            })
        };
        Ok(Self {
            temporal: with_time.then(temporal).transpose()?,
            norm1: norm("layer_norm1")?,
            attention: attention("self_attn")?,
            norm2: norm("layer_norm2")?,
            fc1: Linear::new(weights, &format!("{name}.mlp.fc1"))?,
            fc2: Linear::new(weights, &format!("{name}.mlp.fc2"))?,
        })
    }

    /// Applies the layer to `[frames, tokens, width]`.
    pub(super) fn forward(&self, x: &Tensor, heads: i64, act: Activation) -> Result<Tensor> {
        let timed = self.temporal.as_ref().map(|temporal| temporal.forward(x, heads)).transpose()?;
        let x = timed.as_ref().unwrap_or(x);
        let x = x.f_add(&self.attention.forward(&self.norm1.forward(x)?, heads)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&x)?)?;
        Ok(x.f_add(&self.fc2.forward(&act.forward(&hidden)?)?)?)
    }
}
