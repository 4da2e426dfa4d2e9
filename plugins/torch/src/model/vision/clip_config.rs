//! `vision_config` of a CLIP or LanguageBind tower.

use serde::Deserialize;

use super::pool::Pool;
use crate::model::activation::Activation;

/// Shape of a CLIP tower, and the settings of the model around it.
///
/// The `Debug` form is part of the encoder's fingerprint and must not change.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ClipVision {
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
    /// Whether each layer begins with attention over time (LanguageBind).
    #[serde(default)]
    pub(crate) add_time_attn: bool,
    /// Maximum number of frames of attention over time.
    #[serde(default = "one")]
    pub(crate) num_frames: i64,
    /// Prefix of the tower's tensors, dot included.
    #[serde(skip)]
    pub(crate) prefix: &'static str,
    /// Indices of the hidden states that are concatenated to features; 0 is the embedding.
    #[serde(skip)]
    pub(crate) feature_layers: Vec<i64>,
    /// Whether features include the class token.
    #[serde(skip)]
    pub(crate) keeps_class_token: bool,
    /// Spatial pooling of a frame's features.
    #[serde(skip)]
    pub(crate) pool: Option<Pool>,
    /// Activation between the projector's layers.
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

impl ClipVision {
    /// Returns the number of patches along a side of a frame.
    pub(crate) fn side(&self) -> i64 {
        self.image_size / self.patch_size
    }

    /// Returns the width of a feature.
    pub(crate) fn width(&self) -> i64 {
        self.hidden_size * self.feature_layers.len() as i64
    }

    /// Returns the number of features of a frame.
    pub(crate) fn tokens(&self) -> i64 {
        match self.pool {
            Some(pool) => pool.side(self.side()).pow(2),
            None => self.side().pow(2) + i64::from(self.keeps_class_token),
        }
    }
}
