//! CLIP's vision transformer (arXiv 2103.00020), as `CLIPVisionModel` in transformers computes it, and
//! LanguageBind's, which attends over time in each layer (arXiv 2310.01852).

use serde::Deserialize;
use tch::Tensor;

use crate::error::{Result, TorchError};
use crate::model::activation::Activation;
use crate::model::layers::{LayerNorm, Linear};
use crate::model::product::{self, Sees};
use crate::model::weights::Weights;

/// Shape of a tower, and what the model takes of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ClipVision {
    /// Width of the residual stream.
    pub(crate) hidden_size: i64,
    /// Width of the MLP.
    pub(crate) intermediate_size: i64,
    /// Layers in the checkpoint; fewer are run where features are taken earlier.
    pub(crate) num_hidden_layers: i64,
    /// Attention heads.
    pub(crate) num_attention_heads: i64,
    /// Side of the square input in pixels.
    pub(crate) image_size: i64,
    /// Side of a patch in pixels.
    pub(crate) patch_size: i64,
    /// Epsilon of LayerNorm.
    pub(crate) layer_norm_eps: f64,
    /// Of the MLP.
    pub(crate) hidden_act: Activation,
    /// Whether each layer attends over the frames first.
    #[serde(default)]
    pub(crate) add_time_attn: bool,
    /// The most frames that attend to each other.
    #[serde(default = "one")]
    pub(crate) num_frames: i64,
    /// Prefix of the tower's tensors, dot included.
    #[serde(skip)]
    pub(crate) prefix: &'static str,
    /// Hidden states that features are taken from, side by side; counted from the embedding (0).
    #[serde(skip)]
    pub(crate) feature_layers: Vec<i64>,
    /// Whether the class token is among the features.
    #[serde(skip)]
    pub(crate) keeps_class_token: bool,
    /// How the features of a frame become fewer.
    #[serde(skip)]
    pub(crate) pool: Option<Pool>,
    /// Between the projector's layers.
    #[serde(skip, default = "gelu")]
    pub(crate) projector_act: Activation,
    /// Whether the projector has biases.
    #[serde(skip, default = "yes")]
    pub(crate) projector_bias: bool,
}

fn one() -> i64 {
    1
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn yes() -> bool {
    true
}

/// Pooling over squares of patches, as `LlavaNextVideoPooler` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Their mean; the squares' side.
    Average(i64),
    /// Their maximum.
    Max(i64),
}

impl ClipVision {
    /// Patches along one side of a frame.
    pub(crate) fn side(&self) -> i64 {
        self.image_size / self.patch_size
    }

    /// Elements of one feature.
    pub(crate) fn width(&self) -> i64 {
        self.hidden_size * self.feature_layers.len() as i64
    }

    /// Features of one frame.
    pub(crate) fn tokens(&self) -> i64 {
        match self.pool {
            Some(Pool::Average(stride) | Pool::Max(stride)) => (self.side() / stride).pow(2),
            None => self.side().pow(2) + i64::from(self.keeps_class_token),
        }
    }
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl Attention {
    fn new(weights: &Weights, name: &str) -> Result<Self> {
        let linear = |part: &str| Linear::new(weights, &format!("{name}.{part}"));
        Ok(Self {
            query: linear("q_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            out: linear("out_proj")?,
        })
    }

    /// Attention of each row's tokens to each other, `[rows, tokens, width]`.
    fn forward(&self, x: &Tensor, heads: i64) -> Result<Tensor> {
        let (rows, tokens, width) = x.size3()?;
        let split = |t: Tensor| -> Result<Tensor> {
            Ok(t.f_view([rows, tokens, heads, width / heads])?.f_transpose(1, 2)?)
        };
        let query = split(self.query.forward(x)?)?;
        let key = split(self.key.forward(x)?)?;
        let value = split(self.value.forward(x)?)?;
        let attended = product::attention(&query, &key, &value, Sees::All)?;
        self.out.forward(&attended.f_transpose(1, 2)?.f_reshape([rows, tokens, width])?)
    }
}

/// LanguageBind's attention over time, and what is added to each frame before it.
struct Temporal {
    embedding: Tensor,
    norm: LayerNorm,
    attention: Attention,
}

impl Temporal {
    /// `[frames, tokens, width]`: each token attends to those at its place in the other frames.
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

struct Layer {
    temporal: Option<Temporal>,
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

/// A tower that runs as far as the hidden state that features are taken from.
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
        let prefix = config.prefix;
        let get = |name: &str| weights.get(&format!("{prefix}{name}"));
        Ok(Self {
            class_embedding: get("embeddings.class_embedding")?,
            patch_embedding: get("embeddings.patch_embedding.weight")?,
            position_embedding: get("embeddings.position_embedding.weight")?,
            pre_norm: LayerNorm::new(weights, &format!("{prefix}pre_layrnorm"), config.layer_norm_eps)?,
            layers: (0..config.feature_layers.iter().copied().max().unwrap_or(0))
                .map(|index| Layer::new(weights, &format!("{prefix}encoder.layers.{index}"), config))
                .collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Whether what a frame's features are depends on the others.
    pub(crate) fn attends_over_time(&self) -> bool {
        self.config.add_time_attn
    }

    /// Features `[frames, tokens, dim]` of a video's pixels `[frames, 3, size, size]`.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let frames = pixels.size()[0];
        if self.config.add_time_attn && frames > self.config.num_frames {
            let most = self.config.num_frames;
            let text = format!("the video has {frames} frames, but the tower takes {most} at most");
            return Err(TorchError::Prompt(text));
        }
        let mut states = vec![self.pre_norm.forward(&self.embed(pixels)?)?];
        for (index, layer) in self.layers.iter().enumerate() {
            states.push(layer.forward(&states[index], &self.config)?);
        }
        let taken = self.config.feature_layers.iter().map(|&layer| &states[layer as usize]);
        let x = match self.config.feature_layers.as_slice() {
            [_] => states.pop().ok_or_else(|| TorchError::Engine("a tower without states".to_owned()))?,
            _ => Tensor::f_cat(&taken.collect::<Vec<_>>(), 2)?,
        };
        let patches = x.size()[1] - 1;
        match self.config.pool {
            Some(pool) => self.pooled(pool, &x.f_narrow(1, 1, patches)?),
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

    fn pooled(&self, pool: Pool, patches: &Tensor) -> Result<Tensor> {
        let (frames, _, width) = patches.size3()?;
        let side = self.config.side();
        let image = patches.f_transpose(1, 2)?.f_reshape([frames, width, side, side])?;
        let pooled = match pool {
            Pool::Average(stride) => {
                image.f_avg_pool2d([stride; 2], [stride; 2], [0, 0], false, true, None)?
            }
            Pool::Max(stride) => image.f_max_pool2d([stride; 2], [stride; 2], [0, 0], [1, 1], false)?,
        };
        Ok(pooled.f_flatten(2, 3)?.f_transpose(1, 2)?.f_contiguous()?)
    }
}

impl Layer {
    fn new(weights: &Weights, name: &str, config: &ClipVision) -> Result<Self> {
        let norm = |part: &str| LayerNorm::new(weights, &format!("{name}.{part}"), config.layer_norm_eps);
        let attention = |part: &str| Attention::new(weights, &format!("{name}.{part}"));
        let temporal = || -> Result<Temporal> {
            Ok(Temporal {
                embedding: weights.get(&format!("{name}.temporal_embedding"))?,
                norm: norm("temporal_layer_norm1")?,
                attention: attention("temporal_attn")?,
            })
        };
        Ok(Self {
            temporal: config.add_time_attn.then(temporal).transpose()?,
            norm1: norm("layer_norm1")?,
            attention: attention("self_attn")?,
            norm2: norm("layer_norm2")?,
            fc1: Linear::new(weights, &format!("{name}.mlp.fc1"))?,
            fc2: Linear::new(weights, &format!("{name}.mlp.fc2"))?,
        })
    }

    fn forward(&self, x: &Tensor, config: &ClipVision) -> Result<Tensor> {
        let heads = config.num_attention_heads;
        let timed = self.temporal.as_ref().map(|temporal| temporal.forward(x, heads)).transpose()?;
        let x = timed.as_ref().unwrap_or(x);
        let x = x.f_add(&self.attention.forward(&self.norm1.forward(x)?, heads)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&x)?)?;
        Ok(x.f_add(&self.fc2.forward(&config.hidden_act.forward(&hidden)?)?)?)
    }
}
