//! LLaVA-OneVision (arXiv 2408.03326) as transformers 5 has it: `LlavaOnevisionForConditionalGeneration`.

use std::collections::BTreeMap;

use isr_api::Frames;
use serde_json::{Value, json};

use super::llava::{self, feature_layers};
use crate::error::{Result, TorchError};
use crate::model::activation::Activation;
use crate::model::config::{ModelConfig, Placeholder, VisionConfig};
use crate::model::names::{TensorNames, transformers_module};
use crate::model::preprocess::{ImageProcessor, Normalization};
use crate::model::projector::{NEWLINE, ProjectorConfig};
use crate::model::prompt_layout::{FeatureBlock, PromptLayout};
use crate::model::section::{check_object, check_tower, with_defaults};
use crate::model::text_config::TextConfig;
use crate::model::vision::{Pool, SiglipShape, SiglipVision};

/// Interprets a config of `LlavaOnevisionForConditionalGeneration`.
pub(super) fn parse(source: Value) -> std::result::Result<ModelConfig, String> {
    let section = |name: &str| source.get(name).ok_or_else(|| format!("`{name}` is missing"));
    let text = section("text_config")?;
    let mut text = TextConfig::parse(text, text["model_type"].as_str().unwrap_or("qwen2"))?;
    text.tie_word_embeddings |= source["tie_word_embeddings"].as_bool().unwrap_or(false);
    let tower = section("vision_config")?;
    let shape = siglip_shape(tower)?;
    // Features are the last layer's where the config is silent.
    let last = json!(-1);
    let layer = source.get("vision_feature_layer").filter(|layer| !layer.is_null()).unwrap_or(&last);
    let feature_layers = feature_layers(Some(layer), shape.num_hidden_layers)?;
    match source["vision_feature_select_strategy"].as_str() {
        None | Some("full") => {}
        Some(other) => {
            return Err(format!("vision_feature_select_strategy `{other}` is not supported; known: full"));
        }
    }
    let activation = match &source["projector_hidden_act"] {
        Value::Null => Activation::Gelu,
        act => serde_json::from_value(act.clone()).map_err(|e| format!("projector_hidden_act: {e}"))?,
    };
    let projector = ProjectorConfig {
        input: shape.hidden_size * feature_layers.len() as i64,
        activation,
        has_bias: source["multimodal_projector_bias"].as_bool().unwrap_or(true),
        has_norm: false,
        pool: Some((Pool::Bilinear(2), shape.image_size / shape.patch_size)),
        has_newline: true,
    };
    let token = ["video_token_index", "video_token_id"].iter().find_map(|key| source[*key].as_u64());
    let token = token.unwrap_or(151_647);
    let token = u32::try_from(token).map_err(|_| format!("video_token_index is {token}"))?;
    // The pooling head is not part of a video's features.
    let has_head = tower["vision_use_head"].as_bool().unwrap_or(false);
    Ok(ModelConfig {
        names: TensorNames { canonical, saved, module: transformers_module },
        text,
        processor: ImageProcessor::square(shape.image_size, Normalization::CLIP),
        vision: VisionConfig::Siglip(SiglipVision { shape, feature_layers, projector }),
        placeholder: Placeholder::Token(token),
        content_type: "video",
        layout: one_line,
        extra_tensors: BTreeMap::new(),
        unused_prefixes: if has_head { vec!["vision_tower.head."] } else { Vec::new() },
        external_tower: None,
        source,
    })
}

/// Interprets `vision_config` of a SigLIP tower.
pub(super) fn siglip_shape(section: &Value) -> std::result::Result<SiglipShape, String> {
    let name = "vision_config";
    check_object(name, section)?;
    if let Some(kind) = section["model_type"].as_str().filter(|kind| *kind != "siglip_vision_model") {
        return Err(format!("{name}.model_type `{kind}` is not supported; known: siglip_vision_model"));
    }
    let defaults = json!({
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": 224, "patch_size": 16, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh",
    });
    let shape: SiglipShape = serde_json::from_value(with_defaults(section, defaults))
        .map_err(|error| format!("{name}: {error}"))?;
    let SiglipShape { hidden_size, intermediate_size, num_hidden_layers, .. } = shape;
    let SiglipShape { num_attention_heads, image_size, patch_size, .. } = shape;
    let sizes =
        [hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, image_size, patch_size];
    check_tower(name, sizes, shape.layer_norm_eps)?;
    Ok(shape)
}

/// Lays out all features of a video as one line with a newline behind it.
pub(super) fn one_line(config: &ModelConfig, frames: &Frames) -> Result<PromptLayout> {
    let side = siglip(config)?.prompt_side() as usize;
    let block = FeatureBlock::Lines { count: 1, length: frames.len() * side * side };
    Ok(PromptLayout { text: None, blocks: vec![block] })
}

/// Returns the SigLIP tower of a config.
pub(super) fn siglip(config: &ModelConfig) -> Result<&SiglipVision> {
    match &config.vision {
        VisionConfig::Siglip(vision) => Ok(vision),
        _ => Err(TorchError::Engine("a LLaVA-OneVision model with another's tower".to_owned())),
    }
}

/// Maps tensor names of transformers 4 and 5 to this crate's.
fn canonical(name: &str) -> String {
    match llava::canonical(name) {
        name if name == "image_newline" => NEWLINE.to_owned(),
        name => name,
    }
}

/// Maps this crate's tensor names to those that transformers 5 saves.
fn saved(canonical: &str) -> String {
    if canonical == NEWLINE { "image_newline".to_owned() } else { canonical.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (file, ours) in [
            ("image_newline", NEWLINE),
            ("multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
            ("vision_tower.encoder.layers.0.mlp.fc1.bias", "vision_tower.encoder.layers.0.mlp.fc1.bias"),
            ("language_model.lm_head.weight", "language_model.lm_head.weight"),
        ] {
            assert_eq!(canonical(file), ours);
            assert_eq!(saved(ours), file);
        }
        assert_eq!(canonical("model.image_newline"), NEWLINE);
        assert_eq!(
            canonical("vision_tower.vision_model.post_layernorm.bias"),
            "vision_tower.post_layernorm.bias"
        );
    }
}
