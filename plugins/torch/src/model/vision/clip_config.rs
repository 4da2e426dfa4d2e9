//! `vision_config` of a CLIP or LanguageBind tower.

use serde::Deserialize;

use crate::model::activation::Activation;

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
