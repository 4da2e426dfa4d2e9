//! Model families: what differs between checkpoints that share the decoder and the encoders.
//!
//! A family says which `config.json` is its own, reads it, maps tensor names to those that this crate
//! uses and back, and says how a video stands in a prompt. `docs/families.md` tells how to add one.

mod llava;
mod llava_llama;
mod qwen;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use isr_api::Frames;
use serde_json::Value;

use super::config::ModelConfig;
use super::positions::Grid;
use crate::error::Result;

/// Which checkpoint format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `LlavaForConditionalGeneration`: one image tower; a video is its frames as images.
    Llava,
    /// `VideoLlavaForConditionalGeneration`: an image tower and a video tower.
    VideoLlava,
    /// `LlavaNextVideoForConditionalGeneration`: one tower, whose features are pooled for videos.
    LlavaNextVideo,
    /// `LlavaLlamaForCausalLM` of the LLaVA repositories, as LLaVA-Hound and ISR-DPO release it.
    LlavaLlama,
    /// `Qwen2_5_VLForConditionalGeneration`.
    Qwen25Vl,
    /// `Qwen3VLForConditionalGeneration`.
    Qwen3Vl,
}

/// How a video stands in a prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    /// What is written in place of the template's placeholder; `None` leaves it. It holds one
    /// placeholder a block.
    pub(crate) text: Option<String>,
    /// Runs of features, in order.
    pub(crate) blocks: Vec<Block>,
}

/// A run of visual features, at one placeholder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Block {
    /// So many features, positioned like text.
    Row(usize),
    /// Features with positions of their own.
    Grid(Grid),
}

impl Block {
    /// Features of the block.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Row(count) => *count,
            Self::Grid(grid) => grid.len(),
        }
    }
}

impl Family {
    /// The family of a `config.json`, by its `model_type`.
    pub(crate) fn of(source: &Value) -> std::result::Result<Self, String> {
        let name = source["model_type"].as_str().ok_or("`model_type` is missing")?;
        Ok(match name {
            // The LLaVA repository's first releases called themselves `llava`, too.
            "llava" if source.get("text_config").is_none() && source.get("mm_hidden_size").is_some() => {
                Self::LlavaLlama
            }
            "llava" => Self::Llava,
            "video_llava" => Self::VideoLlava,
            "llava_next_video" => Self::LlavaNextVideo,
            "llava_llama" => Self::LlavaLlama,
            "qwen2_5_vl" => Self::Qwen25Vl,
            "qwen3_vl" => Self::Qwen3Vl,
            other => {
                return Err(format!(
                    "model_type `{other}` is not supported; known: llava, video_llava, llava_next_video, \
                     llava_llama, qwen2_5_vl, qwen3_vl"
                ));
            }
        })
    }

    /// Interprets a `config.json` of this family.
    pub(crate) fn parse(self, source: Value) -> std::result::Result<ModelConfig, String> {
        match self {
            Self::Llava | Self::VideoLlava | Self::LlavaNextVideo => llava::parse(self, source),
            Self::LlavaLlama => llava_llama::parse(source),
            Self::Qwen25Vl | Self::Qwen3Vl => qwen::parse(self, source),
        }
    }

    /// Adds to a config what the checkpoint folder says elsewhere.
    pub(crate) fn complete(self, folder: &Path, source: &mut Value) -> Result<()> {
        match self {
            Self::LlavaLlama => llava_llama::complete(folder, source),
            _ => Ok(()),
        }
    }

    /// Whether videos are prepared by the image processor's settings.
    pub(crate) fn wants_image_processor(self) -> bool {
        matches!(self, Self::Llava)
    }

    /// The content type under which the chat template knows a video.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Llava => "image",
            _ => "video",
        }
    }

    /// This crate's name of a checkpoint's tensor: `language_model.model...`, `language_model.lm_head...`,
    /// `multi_modal_projector...` and the towers' own. Knows the names of older and newer versions.
    pub(crate) fn canonical(self, name: &str) -> String {
        match self {
            Self::Llava | Self::VideoLlava | Self::LlavaNextVideo => llava::canonical(name),
            Self::LlavaLlama => llava_llama::canonical(name),
            Self::Qwen25Vl | Self::Qwen3Vl => qwen::canonical(name),
        }
    }

    /// The name under which a tensor is saved: what the family's own code writes.
    pub(crate) fn written(self, canonical: &str) -> String {
        match self {
            Self::Llava | Self::VideoLlava | Self::LlavaNextVideo => canonical.to_owned(),
            Self::LlavaLlama => llava_llama::written(canonical),
            Self::Qwen25Vl | Self::Qwen3Vl => qwen::written(self, canonical),
        }
    }

    /// Tensors beside those that `expected_tensors` knows.
    pub(crate) fn extra_tensors(self, config: &ModelConfig, all: &mut HashMap<String, Vec<i64>>) {
        match self {
            Self::VideoLlava | Self::LlavaNextVideo => llava::extra_tensors(self, config, all),
            _ => {}
        }
    }

    /// Whether a tensor is kept and saved as it is, though nothing here reads it.
    pub(crate) fn carries(self, config: &ModelConfig, canonical: &str) -> bool {
        self == Self::LlavaLlama && llava_llama::carries(config.tower(), canonical)
    }

    /// The folder that holds the tower of a checkpoint that does not.
    pub(crate) fn tower_beside(self, folder: &Path, config: &ModelConfig) -> Option<PathBuf> {
        match self {
            Self::LlavaLlama => llava_llama::tower_beside(folder, config),
            _ => None,
        }
    }

    /// What the family's own code calls a module, for adapters: the LLaVA repositories' names, or those of
    /// transformers 5.
    pub(crate) fn module(self, canonical: &str) -> String {
        if self == Self::LlavaLlama {
            return llava_llama::written(canonical);
        }
        if let Some(rest) = canonical.strip_prefix("language_model.model.") {
            return format!("model.language_model.{rest}");
        }
        match canonical.strip_prefix("language_model.") {
            Some(rest) => rest.to_owned(),
            None => format!("model.{canonical}"),
        }
    }

    /// How the features of a video are laid out in a prompt.
    ///
    /// # Errors
    /// Frames that the encoder cannot take.
    pub(crate) fn layout(self, config: &ModelConfig, frames: &Frames) -> Result<Layout> {
        match self {
            Self::Qwen25Vl => qwen::layout_with_time(config, frames),
            Self::Qwen3Vl => qwen::layout_with_timestamps(config, frames),
            _ => {
                let [steps, tokens, _] = config.feature_shape(frames)?;
                Ok(Layout { text: None, blocks: vec![Block::Row((steps * tokens) as usize)] })
            }
        }
    }
}

#[cfg(test)]
mod tests;
