//! Model config: what a checkpoint's `config.json` determines, whatever its format.

use std::collections::BTreeMap;

use isr_api::Frames;
use serde_json::Value;

use super::names::TensorNames;
use super::preprocess::ImageProcessor;
use super::prompt_layout::PromptLayout;
use super::text_config::TextConfig;
use super::vision::{ClipVision, InternVision, QwenVision, SiglipVision};
use crate::error::Result;

/// Shapes, names and conventions of a checkpoint. [`super::families`] produces it.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfig {
    /// Mapping between the checkpoint's tensor names and this crate's.
    pub(crate) names: TensorNames,
    /// Decoder.
    pub(crate) text: TextConfig,
    /// Vision tower.
    pub(crate) vision: VisionConfig,
    /// Placeholder of a video in rendered prompts.
    pub(crate) placeholder: Placeholder,
    /// Content type of a video in chat templates: `image` or `video`.
    pub(crate) content_type: &'static str,
    /// Lays the features of a video out in a prompt.
    pub(super) layout: fn(&ModelConfig, &Frames) -> Result<PromptLayout>,
    /// Image processor.
    pub(crate) processor: ImageProcessor,
    /// Names and shapes of tensors that the checkpoint has beside decoder, projector and tower.
    pub(super) extra_tensors: BTreeMap<String, Vec<i64>>,
    /// Name prefixes of tensors that are kept and saved, but not used.
    pub(super) unused_prefixes: Vec<&'static str>,
    /// Name of a tower that may be stored in a folder of its own.
    pub(super) external_tower: Option<String>,
    /// Content of `config.json`, which is written back with a checkpoint.
    pub(crate) source: Value,
}

/// Vision tower of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) enum VisionConfig {
    /// CLIP's transformer, followed by a projector.
    Clip(ClipVision),
    /// SigLIP's transformer, followed by a projector.
    Siglip(SiglipVision),
    /// InternVL's transformer, followed by a projector.
    Intern(InternVision),
    /// Qwen-VL's transformer, whose mergers project to the decoder's width.
    Qwen(QwenVision),
}

/// Placeholder of a video's features in a rendered prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// Token of the tokenizer.
    Token(u32),
    /// Text of the template, which the layout replaces by a text with the token of the tokenizer.
    Expanded(&'static str, u32),
    /// Text at which the prompt is split before tokenisation, and the template where the checkpoint has none.
    Text(&'static str, BuiltIn),
}

/// Conversation template that the LLaVA repositories have in their code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    /// `v1` (Vicuna).
    V1,
    /// `qwen_1_5`. It is used even if the tokenizer has a template, which is that of the text model and knows no videos.
    Qwen15,
}

impl ModelConfig {
    /// Returns the prefix of the tower's tensors, dot included.
    pub(crate) fn tower(&self) -> &'static str {
        match &self.vision {
            VisionConfig::Clip(vision) => vision.prefix,
            VisionConfig::Siglip(_) => SiglipVision::PREFIX,
            VisionConfig::Intern(_) => InternVision::PREFIX,
            VisionConfig::Qwen(_) => QwenVision::PREFIX,
        }
    }

    /// Returns the width of a visual feature as the tower outputs it.
    pub(crate) fn feature_width(&self) -> i64 {
        match &self.vision {
            VisionConfig::Clip(vision) => vision.width(),
            VisionConfig::Siglip(vision) => vision.width(),
            VisionConfig::Intern(vision) => vision.width(),
            VisionConfig::Qwen(vision) => vision.out_hidden_size * (1 + vision.deep_levels()),
        }
    }

    /// Returns the shape `[steps, tokens, width]` of a video's features.
    ///
    /// # Errors
    /// Frames that the image processor does not accept.
    pub(crate) fn feature_shape(&self, frames: &Frames) -> Result<[i64; 3]> {
        let grid = self.processor.grid(frames)?;
        let tokens = match &self.vision {
            VisionConfig::Clip(vision) => vision.tokens(),
            VisionConfig::Siglip(vision) => vision.side().pow(2),
            VisionConfig::Intern(vision) => vision.tokens(),
            VisionConfig::Qwen(vision) => grid.height * grid.width / vision.spatial_merge_size.pow(2),
        };
        Ok([grid.steps, tokens, self.feature_width()])
    }

    /// Lays the features of a video out in a prompt.
    ///
    /// # Errors
    /// Frames that the image processor does not accept.
    pub(crate) fn layout(&self, frames: &Frames) -> Result<PromptLayout> {
        (self.layout)(self, frames)
    }

    /// Returns the number of layers of the tower.
    pub(crate) fn tower_layers(&self) -> i64 {
        match &self.vision {
            VisionConfig::Clip(vision) => vision.num_hidden_layers,
            VisionConfig::Siglip(vision) => vision.shape.num_hidden_layers,
            VisionConfig::Intern(vision) => vision.num_hidden_layers,
            VisionConfig::Qwen(vision) => vision.depth,
        }
    }
}
