//! Projector: from a tower's features to the decoder's embeddings, and the newline behind them.

use std::collections::HashMap;

use tch::Tensor;

use super::activation::Activation;
use super::config::VisionConfig;
use super::layers::{LayerNorm, Linear};
use super::vision::Pool;
use super::weights::Weights;
use crate::error::Result;

/// Prefix of the projector's tensors, dot included.
const PREFIX: &str = "multi_modal_projector.";
/// Name of the newline embedding in this crate, part of the projector.
pub(crate) const NEWLINE: &str = "multi_modal_projector.image_newline";
/// Epsilon of InternVL's norm, the default of `torch.nn.LayerNorm`.
const EPS: f64 = 1e-5;

/// Shape of a projector of two linear layers with an activation between them.
#[derive(Clone, Debug)]
pub(crate) struct ProjectorConfig {
    /// Width of a tower's feature.
    pub(crate) input: i64,
    /// Activation between the layers.
    pub(crate) activation: Activation,
    /// Whether the layers have biases.
    pub(crate) has_bias: bool,
    /// Whether a LayerNorm comes first (InternVL).
    pub(crate) has_norm: bool,
    /// Pooling of a frame's projected features, and the patches along a side of its grid (LLaVA-OneVision).
    pub(crate) pool: Option<(Pool, i64)>,
    /// Whether there is an embedding that is written behind features (`image_newline` of LLaVA).
    pub(crate) has_newline: bool,
}

impl ProjectorConfig {
    /// Adds names and shapes of the projector's tensors; `hidden` is the decoder's width.
    pub(crate) fn tensors(&self, all: &mut HashMap<String, Vec<i64>>, hidden: i64) {
        let mut add = |name: &str, shape: &[i64]| all.insert(format!("{PREFIX}{name}"), shape.to_vec());
        for (name, input) in [("linear_1", self.input), ("linear_2", hidden)] {
            add(&format!("{name}.weight"), &[hidden, input]);
            if self.has_bias {
                add(&format!("{name}.bias"), &[hidden]);
            }
        }
        if self.has_norm {
            add("layer_norm.weight", &[self.input]);
            add("layer_norm.bias", &[self.input]);
        }
        if self.has_newline {
            all.insert(NEWLINE.to_owned(), vec![hidden]);
        }
    }
}

impl VisionConfig {
    /// Returns the shape of the projector; `None` if the tower projects to the decoder's width.
    pub(crate) fn projector(&self) -> Option<ProjectorConfig> {
        match self {
            Self::Clip(vision) => Some(ProjectorConfig {
                input: vision.width(),
                activation: vision.projector_act,
                has_bias: vision.projector_bias,
                has_norm: false,
                pool: None,
                has_newline: false,
            }),
            Self::Siglip(vision) => Some(vision.projector.clone()),
            Self::Intern(vision) => Some(vision.projector()),
            Self::Qwen(_) => None,
        }
    }
}

/// Two-layer MLP projector.
pub(crate) struct Projector {
    norm: Option<LayerNorm>,
    first: Linear,
    activation: Activation,
    second: Linear,
    pool: Option<(Pool, i64)>,
    newline: Option<Tensor>,
}

impl Projector {
    /// Takes the projector's tensors from `weights`.
    pub(crate) fn new(weights: &Weights, config: &ProjectorConfig) -> Result<Self> {
        let linear = |name: &str| Linear::new(weights, &format!("{PREFIX}{name}"));
        let norm = || LayerNorm::new(weights, &format!("{PREFIX}layer_norm"), EPS);
        Ok(Self {
            norm: config.has_norm.then(norm).transpose()?,
            first: linear("linear_1")?,
            activation: config.activation,
            second: linear("linear_2")?,
            pool: config.pool,
            newline: config.has_newline.then(|| weights.get(NEWLINE)).transpose()?,
        })
    }

    /// Projects features `[features, width]` of whole frames to embeddings `[embeddings, hidden]`; see
    /// [`outputs`](Self::outputs).
    pub(crate) fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let normed = self.norm.as_ref().map(|norm| norm.forward(features)).transpose()?;
        let hidden = self.first.forward(normed.as_ref().unwrap_or(features))?;
        let projected = self.second.forward(&self.activation.forward(&hidden)?)?;
        let Some((pool, side)) = self.pool else {
            return Ok(projected);
        };
        let width = projected.size()[1];
        let pooled = pool.forward(&projected.f_view([-1, side * side, width])?, side)?;
        Ok(pooled.f_reshape([-1, width])?)
    }

    /// Returns the number of embeddings that features are projected to: fewer if they are pooled.
    pub(crate) fn outputs(&self, features: usize) -> usize {
        match self.pool {
            Some((pool, side)) => features / (side * side) as usize * pool.side(side).pow(2) as usize,
            None => features,
        }
    }

    /// Returns the newline embedding `[hidden]`.
    pub(crate) fn newline(&self) -> Option<&Tensor> {
        self.newline.as_ref()
    }
}
