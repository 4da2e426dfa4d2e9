//! Model families: the checkpoint formats that are supported, one row of [`FAMILIES`] each.
//!
//! A family recognises its `config.json` and turns it into a [`ModelConfig`], which holds everything that the
//! rest of the crate needs: shapes, tensor names, prompt layout. Nothing else names a family.
//! `docs/families.md` tells how to add one.

mod internvl;
mod llava;
mod llava_llama;
mod llava_onevision;
mod llava_qwen;
mod qwen;

use std::path::Path;

use serde_json::Value;

use super::config::ModelConfig;
use super::preprocess::ProcessorFile;
use crate::error::{Result, TorchError};

/// Checkpoint format.
struct Family {
    /// `model_type` of its `config.json`.
    model_type: &'static str,
    /// Interprets a complete config.
    parse: fn(Value) -> std::result::Result<ModelConfig, String>,
    /// Completes a config from other files of its checkpoint folder.
    complete: fn(&Path, &mut Value) -> Result<()>,
    /// Whether videos are preprocessed by the settings of the image processor.
    uses_image_processor: bool,
}

impl Family {
    /// A family whose configs are complete and whose videos have a processor of their own.
    const fn new(
        model_type: &'static str,
        parse: fn(Value) -> std::result::Result<ModelConfig, String>,
    ) -> Self {
        Self { model_type, parse, complete: |_, _| Ok(()), uses_image_processor: false }
    }

    /// Recognises the family of a `config.json` by its `model_type`.
    fn of(source: &Value) -> std::result::Result<&'static Self, String> {
        let name = match source["model_type"].as_str().ok_or("`model_type` is missing")? {
            // The first releases of the LLaVA repository use `llava`, too.
            "llava" if source.get("text_config").is_none() && source.get("mm_hidden_size").is_some() => {
                match source["architectures"][0].as_str() {
                    Some("LlavaQwenForCausalLM") => "llava_qwen",
                    _ => "llava_llama",
                }
            }
            other => other,
        };
        FAMILIES.iter().find(|family| family.model_type == name).ok_or_else(|| {
            let known = FAMILIES.each_ref().map(|family| family.model_type).join(", ");
            format!("model_type `{name}` is not supported; known: {known}")
        })
    }
}

/// Every supported checkpoint format.
static FAMILIES: [Family; 11] = [
    // LlavaForConditionalGeneration: one image tower; a video is its frames as images.
    Family { uses_image_processor: true, ..Family::new("llava", llava::parse_llava) },
    // VideoLlavaForConditionalGeneration: an image tower and a video tower.
    Family::new("video_llava", llava::parse_video_llava),
    // LlavaNextVideoForConditionalGeneration: one tower, whose features are pooled for videos.
    Family::new("llava_next_video", llava::parse_next_video),
    // LlavaLlamaForCausalLM of the LLaVA repositories, as LLaVA-Hound and ISR-DPO release it.
    Family { complete: llava_llama::complete, ..Family::new("llava_llama", llava_llama::parse) },
    // LlavaQwenForCausalLM of LLaVA-NeXT: LLaVA-OneVision and LLaVA-Video as they are released.
    Family { complete: llava_qwen::complete, ..Family::new("llava_qwen", llava_qwen::parse) },
    // LlavaOnevisionForConditionalGeneration: a SigLIP tower, whose projected features are pooled for videos.
    Family::new("llava_onevision", llava_onevision::parse),
    // InternVLForConditionalGeneration: InternVL3 and InternVL3.5.
    Family::new("internvl", internvl::parse),
    // Qwen2VLForConditionalGeneration.
    Family::new("qwen2_vl", qwen::parse_qwen2),
    // Qwen2_5_VLForConditionalGeneration.
    Family::new("qwen2_5_vl", qwen::parse_qwen2_5),
    // Qwen3VLForConditionalGeneration.
    Family::new("qwen3_vl", qwen::parse_qwen3),
    // Qwen3VLMoeForConditionalGeneration.
    Family::new("qwen3_vl_moe", qwen::parse_qwen3_moe),
];

/// Reads the config of a checkpoint folder: `config.json`, and the files of its image or video processor.
///
/// # Errors
/// An absent file, JSON that does not parse, an architecture or option that is not supported; each names the
/// file.
pub(crate) fn read_config(folder: &Path) -> Result<ModelConfig> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?;
    let mut source: Value = serde_json::from_str(&text)
        .map_err(|error| TorchError::checkpoint(&path, format!("is not JSON: {error}")))?;
    let family = Family::of(&source).map_err(|reason| TorchError::checkpoint(&path, reason))?;
    (family.complete)(folder, &mut source)?;
    let mut config = (family.parse)(source).map_err(|reason| TorchError::checkpoint(&path, reason))?;
    if let Some((path, file)) = ProcessorFile::find(folder, family.uses_image_processor)? {
        config.processor = config.processor.with(&file).map_err(|why| TorchError::checkpoint(path, why))?;
    }
    Ok(config)
}

/// Returns the family of a `config.json`; that of LLaVA's first releases differs from their `model_type`.
///
/// # Errors
/// No `model_type`, or one that is not supported.
pub(crate) fn family(source: &Value) -> std::result::Result<&'static str, String> {
    Family::of(source).map(|family| family.model_type)
}

/// Interprets the content of a `config.json`, without the other files of its folder.
pub(crate) fn parse_config(source: Value) -> std::result::Result<ModelConfig, String> {
    (Family::of(&source)?.parse)(source)
}

#[cfg(test)]
mod tests;
