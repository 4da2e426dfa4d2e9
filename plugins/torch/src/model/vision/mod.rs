//! Vision towers: the transformers of CLIP, SigLIP, InternVL and Qwen-VL, each described by its config.

mod attention;
mod clip;
mod clip_config;
mod intern;
mod intern_config;
mod interpolate;
mod merger;
mod norm;
mod pool;
mod qwen;
mod qwen_config;
mod siglip;
mod window;

use tch::Tensor;

use super::config::{ModelConfig, VisionConfig};
use super::pixel_values::PixelValues;
use super::weights::Weights;
use crate::error::Result;
pub(crate) use clip::ClipTower;
pub(crate) use clip_config::ClipVision;
pub(crate) use intern::InternTower;
pub(crate) use intern_config::InternVision;
pub(crate) use pool::Pool;
pub(crate) use qwen::QwenTower;
pub(crate) use qwen_config::QwenVision;
pub(crate) use siglip::{SiglipShape, SiglipTower, SiglipVision};

/// Vision tower of a checkpoint.
pub(crate) enum Tower {
    /// CLIP's vision transformer, LanguageBind's variants included.
    Clip(ClipTower),
    /// SigLIP's vision transformer.
    Siglip(SiglipTower),
    /// InternVL's vision transformer.
    Intern(InternTower),
    /// Qwen-VL's vision transformer.
    Qwen(Box<QwenTower>),
}

impl Tower {
    /// Takes the tower's tensors from `weights`.
    pub(crate) fn new(weights: &Weights, config: &ModelConfig) -> Result<Self> {
        Ok(match &config.vision {
            VisionConfig::Clip(vision) => Self::Clip(ClipTower::new(weights, vision)?),
            VisionConfig::Siglip(vision) => Self::Siglip(SiglipTower::new(weights, vision)?),
            VisionConfig::Intern(vision) => Self::Intern(InternTower::new(weights, vision)?),
            VisionConfig::Qwen(vision) => Self::Qwen(Box::new(QwenTower::new(weights, vision)?)),
        })
    }

    /// Computes features of several videos, each `[steps, tokens, width]`; in one batch if frames do not attend to each
    /// other.
    pub(crate) fn forward_all(&self, videos: &[PixelValues]) -> Result<Vec<Tensor>> {
        match videos {
            [first, _, ..] if self.takes_frames_alone() => {
                let pixels: Vec<&Tensor> = videos.iter().map(|video| &video.pixels).collect();
                let lengths: Vec<i64> = pixels.iter().map(|pixels| pixels.size()[0]).collect();
                let together = PixelValues { pixels: Tensor::f_cat(&pixels, 0)?, grid: first.grid };
                Ok(self.forward(&together)?.f_split_with_sizes(lengths, 0)?)
            }
            _ => videos.iter().map(|video| self.forward(video)).collect(),
        }
    }

    /// Returns whether a frame's features depend on this frame alone.
    fn takes_frames_alone(&self) -> bool {
        match self {
            Self::Clip(tower) => !tower.attends_over_time(),
            Self::Siglip(_) | Self::Intern(_) => true,
            Self::Qwen(_) => false,
        }
    }

    /// Computes features `[steps, tokens, width]` of one video.
    pub(crate) fn forward(&self, video: &PixelValues) -> Result<Tensor> {
        match self {
            Self::Clip(tower) => tower.forward(&video.pixels),
            Self::Siglip(tower) => tower.forward(&video.pixels),
            Self::Intern(tower) => tower.forward(&video.pixels),
            Self::Qwen(tower) => tower.forward(&video.pixels, video.grid),
        }
    }
}
