//! Checkpoints of the LLaVA repositories (`LlavaLlamaForCausalLM`), as LLaVA-Hound (arXiv 2404.01258) and
//! ISR-DPO (arXiv 2406.11280) release them: Vicuna's config with LLaVA's keys, LLaVA's tensor names, and
//! a LanguageBind tower (arXiv 2310.01852) inside the checkpoint or in a folder of its own.

pub(super) mod names;
pub(super) mod tower;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use self::names::{TOWERS, canonical, saved};
use super::llava::{clip_vision, feature_layers, one_row};
use crate::error::{Result, TorchError};
use crate::model::config::{BuiltIn, ModelConfig, Placeholder, VisionConfig};
use crate::model::external_tower;
use crate::model::names::TensorNames;
use crate::model::preprocess::ImageProcessor;
use crate::model::text_config::TextConfig;

/// Placeholder of a video in the LLaVA repositories: text at which the prompt is split, not a token.
const VIDEO: &str = "<video>";

/// Interprets a config after [`complete`].
pub(super) fn parse(source: Value) -> std::result::Result<ModelConfig, String> {
    let (_, name, prefix) = tower_of(&source)?;
    let text = TextConfig::parse(&source, "llama")?;
    let on = |key: &str| source[key].as_bool().unwrap_or(false);
    // LLaVA-Hound reads the second only where the config names its modalities, too.
    if on("mm_use_im_start_end") || (on("mm_use_x_start_end") && source.get("X").is_some()) {
        return Err(
            "marks around a video (mm_use_im_start_end, mm_use_x_start_end) are not supported".to_owned()
        );
    }
    if let Some(kind) = source["mm_projector_type"].as_str().filter(|kind| *kind != "mlp2x_gelu") {
        return Err(format!("mm_projector_type `{kind}` is not supported; known: mlp2x_gelu"));
    }
    // LLaVA-1.6: tiles of a picture with newlines between their rows.
    if let Some(kind) = source["mm_patch_merge_type"].as_str().filter(|kind| *kind != "flat") {
        return Err(format!(
            "mm_patch_merge_type `{kind}` is not supported with a Llama decoder; known: flat"
        ));
    }
    let section = source.get("vision_config").filter(|section| section.is_object()).ok_or_else(|| {
        format!("the tower `{name}` is neither in the checkpoint nor in a folder beside it: put it there")
    })?;
    let mut section = section.clone();
    // LanguageBind's configs call their towers by names of their own.
    section["model_type"] = Value::Null;
    let mut vision = clip_vision(&section)?;
    vision.prefix = prefix;
    let layer = source.get("mm_vision_select_layer");
    vision.feature_layers = feature_layers(layer, vision.num_hidden_layers)?;
    vision.keeps_class_token = match source["mm_vision_select_feature"].as_str() {
        None | Some("patch") => false,
        Some("cls_patch") => true,
        Some(other) => return Err(format!("mm_vision_select_feature `{other}` is not supported")),
    };
    // LanguageBind's processors have one transform; plain LLaVA's is CLIP's.
    let processor = match prefix {
        "vision_tower." => ImageProcessor::clip(vision.image_size),
        _ => ImageProcessor::LanguageBind(vision.image_size),
    };
    let others = TOWERS.iter().map(|(_, other)| *other).filter(|other| *other != prefix);
    Ok(ModelConfig {
        names: TensorNames { canonical, saved, module: saved },
        text,
        vision: VisionConfig::Clip(vision),
        placeholder: Placeholder::Text(VIDEO, BuiltIn::V1),
        content_type: "video",
        layout: one_row,
        processor,
        extra_tensors: BTreeMap::new(),
        unused_prefixes: others.collect(),
        external_tower: Some(name.to_owned()),
        source,
    })
}

/// Returns the config key, the name and the tensor prefix of the tower.
fn tower_of(source: &Value) -> std::result::Result<(&'static str, &str, &'static str), String> {
    let named = |(key, prefix)| Some((key, source[key].as_str().filter(|name| !name.is_empty())?, prefix));
    TOWERS.into_iter().find_map(named).ok_or_else(|| {
        "names no tower: mm_video_tower, mm_image_tower and mm_vision_tower are missing".to_owned()
    })
}

/// Adds `vision_config`, which these configs lack: from the tower's own folder, otherwise from the shapes of the
/// tensors in the checkpoint.
pub(super) fn complete(folder: &Path, source: &mut Value) -> Result<()> {
    let path = folder.join("config.json");
    let (_, name, prefix) = tower_of(source).map_err(|reason| TorchError::checkpoint(&path, reason))?;
    let known = source.get("vision_config").is_some_and(Value::is_object);
    let found = match external_tower::find(folder, name) {
        _ if known => None,
        Some(beside) => Some(tower::config(&beside)?),
        None => tower::config_from_shapes(folder, prefix)?,
    };
    if let Some(found) = found {
        source["vision_config"] = found;
    }
    Ok(())
}
