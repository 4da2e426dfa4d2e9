//! InternVL3 and InternVL3.5 (arXiv 2504.10479, 2508.18265) as transformers 5 has them:
//! `InternVLForConditionalGeneration`.

use std::collections::BTreeMap;
use std::fmt::Write;

use isr_api::Frames;
use serde_json::Value;

use super::llava;
use crate::error::{Result, TorchError};
use crate::model::config::{ModelConfig, Placeholder, VisionConfig};
use crate::model::names::{TensorNames, transformers_module};
use crate::model::preprocess::{ImageProcessor, Normalization};
use crate::model::prompt_layout::{FeatureBlock, PromptLayout};
use crate::model::text_config::TextConfig;
use crate::model::vision::InternVision;

/// What the template writes for a video.
const VIDEO: &str = "<video>";
/// Texts of the tokens around and of a frame's features.
const START: &str = "<img>";
const FEATURES: &str = "<IMG_CONTEXT>";
const END: &str = "</img>";

/// Interprets a config of `InternVLForConditionalGeneration`.
pub(super) fn parse(source: Value) -> std::result::Result<ModelConfig, String> {
    let vision = InternVision::parse(&source)?;
    let text = source.get("text_config").ok_or("`text_config` is missing")?;
    // transformers takes the output layer for tied where neither half of the config says so.
    let tied = [&source, text].map(|half| half["tie_word_embeddings"].as_bool());
    let tied = if tied == [None; 2] { true } else { tied.contains(&Some(true)) };
    let mut text = TextConfig::parse(text, text["model_type"].as_str().unwrap_or("qwen2"))?;
    text.tie_word_embeddings = tied;
    let token = source["image_token_id"].as_u64().unwrap_or(151_667);
    let token = u32::try_from(token).map_err(|_| format!("image_token_id is {token}"))?;
    Ok(ModelConfig {
        names: TensorNames {
            canonical: llava::canonical,
            saved: str::to_owned,
            module: transformers_module,
        },
        text,
        processor: ImageProcessor::square(vision.image_size, Normalization::CLIP),
        vision: VisionConfig::Intern(vision),
        placeholder: Placeholder::Expanded(VIDEO, token),
        content_type: "video",
        layout: numbered_frames,
        extra_tensors: BTreeMap::new(),
        unused_prefixes: Vec::new(),
        external_tower: None,
        source,
    })
}

/// Lays out each frame as a line of its own that begins with its number (`replace_video_token` of transformers'
/// processor).
fn numbered_frames(config: &ModelConfig, frames: &Frames) -> Result<PromptLayout> {
    let [count, tokens, _] = config.feature_shape(frames)?;
    let mut text = String::new();
    for frame in 1..=count {
        let line = if frame > 1 { "\n" } else { "" };
        write!(text, "{line}Frame{frame}: {START}{FEATURES}{END}")
            .map_err(|error| TorchError::Template(error.to_string()))?;
    }
    Ok(PromptLayout { text: Some(text), blocks: vec![FeatureBlock::Row(tokens as usize); count as usize] })
}
