//! transformers' LLaVA form: `LlavaForConditionalGeneration`, `VideoLlavaForConditionalGeneration` and
//! `LlavaNextVideoForConditionalGeneration` (arXiv 2304.08485, 2311.10122; LLaVA-NeXT-Video).

use std::collections::BTreeMap;

use isr_api::Frames;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error;
use crate::model::activation::Activation;
use crate::model::config::{ModelConfig, Placeholder, VisionConfig};
use crate::model::expected::clip_tower;
use crate::model::names::{TensorNames, transformers_module};
use crate::model::preprocess::ImageProcessor;
use crate::model::prompt_layout::{FeatureBlock, PromptLayout};
use crate::model::section::{check_object, check_sizes, check_tower, with_defaults};
use crate::model::text_config::TextConfig;
use crate::model::vision::{ClipVision, Pool};

#[derive(Debug, Deserialize)]
struct TopLevel {
    image_token_index: Option<u32>,
    image_token_id: Option<u32>,
    video_token_index: Option<u32>,
    video_token_id: Option<u32>,
    vision_feature_layer: Option<Value>,
    vision_feature_select_strategy: Option<String>,
    projector_hidden_act: Option<Activation>,
    multimodal_projector_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    spatial_pool_mode: Option<String>,
    spatial_pool_stride: Option<i64>,
}

/// The three classes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Llava,
    VideoLlava,
    LlavaNextVideo,
}

/// Interprets a config of `LlavaForConditionalGeneration`.
pub(super) fn parse_llava(source: Value) -> Result<ModelConfig, String> {
    parse(Class::Llava, source)
}

/// Interprets a config of `VideoLlavaForConditionalGeneration`.
pub(super) fn parse_video_llava(source: Value) -> Result<ModelConfig, String> {
    parse(Class::VideoLlava, source)
}

/// Interprets a config of `LlavaNextVideoForConditionalGeneration`.
pub(super) fn parse_next_video(source: Value) -> Result<ModelConfig, String> {
    parse(Class::LlavaNextVideo, source)
}

fn parse(class: Class, source: Value) -> Result<ModelConfig, String> {
    let top: TopLevel = serde_json::from_value(source.clone()).map_err(|error| error.to_string())?;
    let section = |name: &str| source.get(name).ok_or_else(|| format!("`{name}` is missing"));
    let text = section("text_config")?;
    let mut text = TextConfig::parse(text, text["model_type"].as_str().unwrap_or("llama"))?;
    text.tie_word_embeddings |= top.tie_word_embeddings.unwrap_or(false);
    let vision = tower(class, &top, section("vision_config")?)?;
    let token = match class {
        Class::Llava => top.image_token_index.or(top.image_token_id),
        _ => top.video_token_index.or(top.video_token_id),
    };
    let placeholder = Placeholder::Token(token.ok_or("the visual token's id is missing")?);
    Ok(ModelConfig {
        names: TensorNames { canonical, saved: str::to_owned, module: transformers_module },
        processor: ImageProcessor::clip(vision.image_size),
        extra_tensors: extra_tensors(class, text.hidden_size, &vision),
        text,
        vision: VisionConfig::Clip(vision),
        placeholder,
        content_type: if class == Class::Llava { "image" } else { "video" },
        layout: one_row,
        unused_prefixes: Vec::new(),
        external_tower: None,
        source,
    })
}

/// Interprets `vision_config` and what the top level says about the tower and the projector.
fn tower(class: Class, top: &TopLevel, section: &Value) -> Result<ClipVision, String> {
    let mut vision = clip_vision(section)?;
    vision.prefix = if class == Class::VideoLlava { "video_tower." } else { "vision_tower." };
    vision.feature_layers = feature_layers(top.vision_feature_layer.as_ref(), vision.num_hidden_layers)?;
    vision.projector_act = top.projector_hidden_act.unwrap_or(Activation::Gelu);
    vision.projector_bias = top.multimodal_projector_bias.unwrap_or(true);
    vision.keeps_class_token = match top.vision_feature_select_strategy.as_deref() {
        // transformers' VideoLlava applies the strategy to images only: videos keep the class token.
        _ if class == Class::VideoLlava => true,
        None | Some("default") => false,
        Some("full") if class == Class::Llava => true,
        Some(other) => return Err(format!("vision_feature_select_strategy `{other}` is not supported")),
    };
    if class == Class::LlavaNextVideo {
        vision.pool = Some(pool(top, vision.side())?);
    }
    Ok(vision)
}

/// Lays out all features of a video as one block, positioned like text.
pub(super) fn one_row(config: &ModelConfig, frames: &Frames) -> error::Result<PromptLayout> {
    let [steps, tokens, _] = config.feature_shape(frames)?;
    Ok(PromptLayout { text: None, blocks: vec![FeatureBlock::Row((steps * tokens) as usize)] })
}

/// Interprets `vision_config` of a CLIP tower; settings of the model around it keep LLaVA's defaults.
pub(super) fn clip_vision(section: &Value) -> Result<ClipVision, String> {
    check_object("vision_config", section)?;
    let kind = section["model_type"].as_str().unwrap_or("clip_vision_model");
    if !matches!(kind, "clip_vision_model" | "clip") {
        return Err(format!(
            "vision_config.model_type `{kind}` is not supported; known: clip_vision_model"
        ));
    }
    let defaults = json!({
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": 224, "patch_size": 32, "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu",
    });
    let config: ClipVision = serde_json::from_value(with_defaults(section, defaults))
        .map_err(|error| format!("vision_config: {error}"))?;
    let section = "vision_config";
    let ClipVision { hidden_size, intermediate_size, num_hidden_layers, .. } = config;
    let ClipVision { num_attention_heads, image_size, patch_size, .. } = config;
    let sizes =
        [hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, image_size, patch_size];
    check_tower(section, sizes, config.layer_norm_eps)?;
    check_sizes(section, &[("num_frames", config.num_frames, 1..=1 << 20)])?;
    Ok(config)
}

/// Returns the indices of the hidden states that features are taken from, where 0 is the embedding; the last
/// but one (-2) by default.
pub(super) fn feature_layers(value: Option<&Value>, layers: i64) -> Result<Vec<i64>, String> {
    let given: Vec<i64> = match value {
        None | Some(Value::Null) => vec![-2],
        Some(Value::Array(list)) if list.len() as i64 <= layers => {
            list.iter().map(|layer| layer.as_i64().unwrap_or(i64::MAX)).collect()
        }
        Some(value) => value.as_i64().into_iter().collect(),
    };
    let from_start = |layer: i64| if layer < 0 { layers + 1 + layer } else { layer };
    let taken: Vec<i64> = given.iter().map(|&layer| from_start(layer)).collect();
    if taken.is_empty() || taken.iter().any(|layer| !(0..=layers).contains(layer)) {
        return Err(format!("features are taken from layer {given:?}, but the tower has {layers} layers"));
    }
    Ok(taken)
}

fn pool(top: &TopLevel, side: i64) -> Result<Pool, String> {
    let stride = top.spatial_pool_stride.unwrap_or(2);
    match top.spatial_pool_mode.as_deref() {
        _ if stride < 1 || stride > side => {
            Err(format!("spatial_pool_stride is {stride}, of {side} patches along a side"))
        }
        None | Some("average") => Ok(Pool::Average(stride)),
        Some("max") => Ok(Pool::Max(stride)),
        Some(other) => Err(format!("spatial_pool_mode `{other}` is not supported; known: average, max")),
    }
}

/// Maps tensor names of transformers 4 and 5 to this crate's.
pub(super) fn canonical(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(rest) = name.strip_prefix("model.language_model.") {
        name = format!("language_model.model.{rest}");
    } else if let Some(rest) = name.strip_prefix("model.") {
        name = rest.to_owned();
    } else if name.starts_with("lm_head.") {
        name = format!("language_model.{name}");
    }
    for tower in ["vision_tower", "video_tower", "image_tower"] {
        name = name.replace(&format!("{tower}.vision_model."), &format!("{tower}."));
    }
    name
}

/// Returns the tensors that videos do not use: Video-LLaVA's image tower, and LLaVA-NeXT's `image_newline`.
fn extra_tensors(class: Class, hidden_size: i64, vision: &ClipVision) -> BTreeMap<String, Vec<i64>> {
    let mut all = BTreeMap::new();
    match class {
        Class::Llava => {}
        Class::VideoLlava => all.extend(clip_tower("image_tower.", vision)),
        Class::LlavaNextVideo => all.extend([("image_newline".to_owned(), vec![hidden_size])]),
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_versions_meet() {
        let cases = [
            ("language_model.model.norm.weight", "language_model.model.norm.weight"),
            ("model.language_model.norm.weight", "language_model.model.norm.weight"),
            ("lm_head.weight", "language_model.lm_head.weight"),
            ("model.multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
            ("vision_tower.vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
            ("model.video_tower.vision_model.x", "video_tower.x"),
            ("model.image_newline", "image_newline"),
        ];
        for (given, expected) in cases {
            assert_eq!(canonical(given), expected);
        }
    }
}
