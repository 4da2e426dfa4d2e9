//! Encoders: CLIP's transformer and Qwen-VL's, each described by its config.

mod clip;
mod interpolate;
mod merger;
mod qwen;
mod qwen_config;
mod window;

use tch::Tensor;

use super::config::{ModelConfig, VisionConfig};
use super::preprocess::Prepared;
use super::weights::Weights;
use crate::error::Result;
pub(crate) use clip::{ClipTower, ClipVision, Pool};
pub(crate) use qwen::QwenTower;
pub(crate) use qwen_config::QwenVision;

/// The encoder of a checkpoint.
pub(crate) enum Tower {
    /// CLIP's vision transformer, LanguageBind's variants included.
    Clip(ClipTower),
    /// Qwen-VL's vision transformer.
    Qwen(Box<QwenTower>),
}

impl Tower {
    /// Takes the tower's tensors from `weights`.
    pub(crate) fn new(weights: &Weights, config: &ModelConfig) -> Result<Self> {
        Ok(match &config.vision {
            VisionConfig::Clip(vision) => Self::Clip(ClipTower::new(weights, vision)?),
            VisionConfig::Qwen(vision) => Self::Qwen(Box::new(QwenTower::new(weights, vision)?)),
        })
    }

    /// Features `[steps, tokens, width]` of one video.
    pub(crate) fn forward(&self, video: &Prepared) -> Result<Tensor> {
        match self {
            Self::Clip(tower) => tower.forward(&video.pixels),
            Self::Qwen(tower) => tower.forward(&video.pixels, video.grid),
        }
    }
}
