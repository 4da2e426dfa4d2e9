//! transformers' LLaVA form: `LlavaForConditionalGeneration`, `VideoLlavaForConditionalGeneration` and
//! `LlavaNextVideoForConditionalGeneration` (arXiv 2304.08485, 2311.10122; LLaVA-NeXT-Video).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Family;
use crate::model::activation::Activation;
use crate::model::config::{ModelConfig, Placeholder, TextConfig, VisionConfig, with_defaults};
use crate::model::expected::clip_tower;
use crate::model::preprocess::Recipe;
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

/// Interprets a config of the three classes.
pub(super) fn parse(family: Family, source: Value) -> Result<ModelConfig, String> {
    let top: TopLevel = serde_json::from_value(source.clone()).map_err(|error| error.to_string())?;
    let section = |name: &str| source.get(name).ok_or_else(|| format!("`{name}` is missing"));
    let text = section("text_config")?;
    let mut text = TextConfig::parse(text, text["model_type"].as_str().unwrap_or("llama"))?;
    text.tie_word_embeddings |= top.tie_word_embeddings.unwrap_or(false);
    let mut vision = clip_vision(section("vision_config")?)?;
    vision.prefix = if family == Family::VideoLlava { "video_tower." } else { "vision_tower." };
    vision.feature_layers = feature_layers(top.vision_feature_layer.as_ref(), vision.num_hidden_layers)?;
    vision.projector_act = top.projector_hidden_act.unwrap_or(Activation::Gelu);
    vision.projector_bias = top.multimodal_projector_bias.unwrap_or(true);
    vision.keeps_class_token = match top.vision_feature_select_strategy.as_deref() {
        // transformers' VideoLlava applies the strategy to images only: videos keep the class token.
        _ if family == Family::VideoLlava => true,
        None | Some("default") => false,
        Some("full") if family == Family::Llava => true,
        Some(other) => return Err(format!("vision_feature_select_strategy `{other}` is not supported")),
    };
    if family == Family::LlavaNextVideo {
        vision.pool = Some(pool(&top, vision.side())?);
    }
    let token = match family {
        Family::Llava => top.image_token_index.or(top.image_token_id),
        _ => top.video_token_index.or(top.video_token_id),
    };
    let placeholder = Placeholder::Token(token.ok_or("the visual token's id is missing")?);
    let recipe = Recipe::clip(vision.image_size);
    Ok(ModelConfig { family, text, vision: VisionConfig::Clip(vision), placeholder, recipe, source })
}

/// `vision_config` of a CLIP tower; what the model around it decides is left at LLaVA's defaults.
pub(super) fn clip_vision(section: &Value) -> Result<ClipVision, String> {
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
    if config.patch_size < 1 || config.image_size < config.patch_size || config.num_attention_heads < 1 {
        return Err("vision_config: pictures, patches or heads of no size".to_owned());
    }
    Ok(config)
}

/// The hidden states that features are taken from, counted from the embedding (0); -2 where absent.
pub(super) fn feature_layers(value: Option<&Value>, layers: i64) -> Result<Vec<i64>, String> {
    let given: Vec<i64> = match value {
        None | Some(Value::Null) => vec![-2],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_i64).collect(),
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

/// Maps the names of older and newer transformers versions to one.
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

/// Video-LLaVA's tower for images, and LLaVA-NeXT's mark of a row's end. Videos use neither.
pub(super) fn extra_tensors(family: Family, config: &ModelConfig, all: &mut HashMap<String, Vec<i64>>) {
    if family == Family::LlavaNextVideo {
        all.insert("image_newline".to_owned(), vec![config.text.hidden_size]);
    } else if let VisionConfig::Clip(vision) = &config.vision {
        clip_tower(all, "image_tower.", vision);
    }
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
