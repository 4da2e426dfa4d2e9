//! Vision towers: CLIP's transformer and Qwen-VL's, each described by its config.

mod clip;
mod clip_config;
mod interpolate;
mod merger;
mod norm;
mod qwen;
mod qwen_config;
mod window;

use tch::Tensor;

use super::config::{ModelConfig, VisionConfig};
use super::pixel_values::PixelValues;
use super::weights::Weights;
use crate::error::Result;
pub(crate) use clip::ClipTower;
pub(crate) use clip_config::{ClipVision, Pool};
pub(crate) use qwen::QwenTower;
pub(crate) use qwen_config::QwenVision;

/// Vision tower of a checkpoint.
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

    /// Computes features of several videos, each `[steps, tokens, width]`; in one batch if frames do not attend to each
    /// other.
    pub(crate) fn forward_all(&self, videos: &[PixelValues]) -> Result<Vec<Tensor>> {
        match self {
            Self::Clip(tower) if videos.len() > 1 && !tower.attends_over_time() => {
                let pixels: Vec<&Tensor> = videos.iter().map(|video| &video.pixels).collect();
                let lengths: Vec<i64> = pixels.iter().map(|pixels| pixels.size()[0]).collect();
                let features = tower.forward(&Tensor::f_cat(&pixels, 0)?)?;
                Ok(features.f_split_with_sizes(lengths, 0)?)
            }
            _ => videos.iter().map(|video| self.forward(video)).collect(),
        }
    }

    /// Computes features `[steps, tokens, width]` of one video.
    pub(crate) fn forward(&self, video: &PixelValues) -> Result<Tensor> {
        match self {
            Self::Clip(tower) => tower.forward(&video.pixels),
            Self::Qwen(tower) => tower.forward(&video.pixels, video.grid),
        }
    }
}
