//! Image processors: from decoded frames to the input of a vision tower.
//!
//! | processor | reference |
//! |---|---|
//! | CLIP (`clip.rs`) | `CLIPImageProcessor`, `LlavaNextVideoVideoProcessor`, `LlavaOnevisionVideoProcessor`, `InternVLVideoProcessor` of transformers 5 |
//! | LanguageBind (`language_bind.rs`) | LanguageBind's video transform, as in LLaVA-Hound |
//! | patches (`patches.rs`) | `Qwen2VLVideoProcessor` and `Qwen3VLVideoProcessor` of transformers 5 |

mod clip;
mod file;
mod language_bind;
mod normalization;
mod patches;

use clip::ClipProcessor;
use isr_api::Frames;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::pixel_values::{PatchGrid, PixelValues};
use crate::error::{Result, TorchError};
pub(crate) use file::ProcessorFile;
pub(crate) use normalization::{MEAN, Normalization, STD};
pub(crate) use patches::PatchProcessor;

/// Choice of the image processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preprocess {
    /// The checkpoint's own: LanguageBind's transform for LLaVA's original format, otherwise the processor
    /// that its files describe.
    #[default]
    Checkpoint,
    /// `CLIPImageProcessor` of transformers.
    Clip,
    /// LanguageBind's transform, as LLaVA-Hound and ISR-DPO apply it.
    LlavaHound,
}

/// Image processor with all its settings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ImageProcessor {
    /// `CLIPImageProcessor`.
    Clip(ClipProcessor),
    /// LanguageBind's transform to a square of this side in pixels.
    LanguageBind(i64),
    /// Patches of Qwen-VL.
    Patches(PatchProcessor),
}

impl ImageProcessor {
    /// Creates the default CLIP processor of a tower with square input of `side` pixels.
    pub(crate) fn clip(side: i64) -> Self {
        Self::Clip(ClipProcessor::new(side))
    }

    /// Creates the default processor of a tower whose frames are resized to a square of `side` pixels.
    pub(crate) fn square(side: i64, normalization: Normalization) -> Self {
        Self::Clip(ClipProcessor::square(side, normalization))
    }

    /// Applies the settings of a processor file.
    ///
    /// # Errors
    /// Settings that are not supported or do not fit the tower.
    pub(crate) fn with(self, file: &ProcessorFile) -> std::result::Result<Self, String> {
        file.check()?;
        Ok(match self {
            Self::Clip(processor) => Self::Clip(processor.with(file)?),
            Self::Patches(processor) => Self::Patches(processor.with(file)?),
            // LanguageBind's transform is hard-coded in its repository.
            Self::LanguageBind(side) => Self::LanguageBind(side),
        })
    }

    /// Applies the user's choice to the checkpoint's processor; patches have no alternative.
    pub(crate) fn chosen(&self, choice: Preprocess, side: i64) -> Self {
        match (choice, self) {
            (Preprocess::Checkpoint, _) | (_, Self::Patches(_)) => self.clone(),
            (Preprocess::Clip, Self::Clip(_)) => self.clone(),
            (Preprocess::Clip, _) => Self::clip(side),
            (Preprocess::LlavaHound, _) => Self::LanguageBind(side),
        }
    }

    /// Returns the patch grid of a video; `1 x 1` for each frame unless the processor makes patches.
    ///
    /// # Errors
    /// Frames that the processor does not accept.
    pub(crate) fn grid(&self, frames: &Frames) -> Result<PatchGrid> {
        match self {
            Self::Patches(processor) => processor.grid(frames),
            _ => Ok(PatchGrid { steps: frames.len() as i64, height: 1, width: 1 }),
        }
    }

    /// Preprocesses the frames of one video, in float32 on the CPU.
    ///
    /// # Errors
    /// Frames that the processor does not accept.
    pub(crate) fn process(&self, frames: &Frames) -> Result<PixelValues> {
        let (raw, grid) = (raw(frames)?, self.grid(frames)?);
        let pixels = match self {
            Self::Clip(processor) => processor.pixels(&raw)?,
            Self::LanguageBind(side) => language_bind::pixels(&raw, *side)?,
            Self::Patches(processor) => processor.patches(&raw, grid)?,
        };
        Ok(PixelValues { pixels, grid })
    }

    /// Returns a text of all settings, part of the encoder's fingerprint. Its wording, names included, is frozen:
    /// cached features and started runs are found by it (`tests/fingerprints.rs`).
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Clip(processor) => format!("Clip({})", processor.identity()),
            Self::LanguageBind(side) => format!("LlavaHound({side})"),
            Self::Patches(processor) => format!("Patches({})", processor.identity()),
        }
    }
}

/// Converts frames to 8-bit `[frames, 3, height, width]`.
fn raw(frames: &Frames) -> Result<Tensor> {
    let (height, width) = (i64::from(frames.height), i64::from(frames.width));
    let count = frames.len() as i64;
    if frames.is_empty() || frames.rgb.len() as i64 != count * height * width * 3 {
        return Err(TorchError::Prompt(format!(
            "{} bytes are not {count} RGB frames of {width}x{height}",
            frames.rgb.len()
        )));
    }
    let raw = Tensor::f_from_data_size(&frames.rgb, &[count, height, width, 3], Kind::Uint8)?;
    Ok(raw.f_permute([0, 3, 1, 2])?.f_contiguous()?)
}
