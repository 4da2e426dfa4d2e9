//! Qwen2-VL (arXiv 2409.12191), Qwen2.5-VL (arXiv 2502.13923) and Qwen3-VL (arXiv 2511.21631), dense and with sparse
//! experts, as transformers 5 has them.

use std::collections::BTreeMap;
use std::fmt::Write;

use isr_api::Frames;
use serde_json::Value;

use crate::error::{Result, TorchError};
use crate::model::config::{ModelConfig, Placeholder, VisionConfig};
use crate::model::names::{TensorNames, transformers_module};
use crate::model::pixel_values::PatchGrid;
use crate::model::positions::Grid;
use crate::model::preprocess::{ImageProcessor, Normalization, PatchProcessor};
use crate::model::prompt_layout::{FeatureBlock, PromptLayout};
use crate::model::text_config::TextConfig;
use crate::model::vision::QwenVision;

const START: &str = "<|vision_start|>";
const VIDEO: &str = "<|video_pad|>";
const END: &str = "<|vision_end|>";

/// Interprets a config of Qwen2-VL; its own files have the decoder's settings at the top level.
pub(super) fn parse_qwen2(source: Value) -> std::result::Result<ModelConfig, String> {
    let vision = QwenVision::qwen2(section(&source)?)?;
    parse_by_frame(source, "qwen2_vl_text", vision, layout_in_steps)
}

/// Interprets a config of Qwen2.5-VL; its own files have the decoder's settings at the top level.
pub(super) fn parse_qwen2_5(source: Value) -> std::result::Result<ModelConfig, String> {
    let vision = QwenVision::qwen2_5(section(&source)?)?;
    parse_by_frame(source, "qwen2_5_vl_text", vision, layout_with_time)
}

/// Interprets a config with the given tower, whose budget of pixels bounds each frame.
fn parse_by_frame(
    source: Value,
    decoder_kind: &str,
    vision: QwenVision,
    layout: fn(&ModelConfig, &Frames) -> Result<PromptLayout>,
) -> std::result::Result<ModelConfig, String> {
    let patches = PatchProcessor {
        patch: vision.patch_size,
        temporal: vision.temporal_patch_size,
        merge: vision.spatial_merge_size,
        min_pixels: 128 * 28 * 28,
        max_pixels: 28 * 28 * 768,
        whole_video: false,
        cap: None,
        max_video_tokens: 128_000,
        normalization: Normalization::CLIP,
    };
    let names = TensorNames { canonical, saved: saved_qwen2, module: transformers_module };
    let text = TextConfig::parse(decoder(&source), decoder_kind)?;
    parse(source, names, text, vision, patches, layout)
}

/// Interprets a config of Qwen3-VL.
pub(super) fn parse_qwen3(source: Value) -> std::result::Result<ModelConfig, String> {
    parse_with_timestamps(source, "qwen3_vl_text")
}

/// Interprets a config of Qwen3-VL with sparse experts.
pub(super) fn parse_qwen3_moe(source: Value) -> std::result::Result<ModelConfig, String> {
    parse_with_timestamps(source, "qwen3_vl_moe_text")
}

fn parse_with_timestamps(source: Value, decoder_kind: &str) -> std::result::Result<ModelConfig, String> {
    let vision = QwenVision::qwen3(section(&source)?)?;
    // The budget bounds all frames together.
    let patches = PatchProcessor {
        patch: vision.patch_size,
        temporal: vision.temporal_patch_size,
        merge: vision.spatial_merge_size,
        min_pixels: 128 * 32 * 32,
        max_pixels: 32 * 32 * 768,
        whole_video: true,
        cap: None,
        max_video_tokens: 768,
        normalization: Normalization { mean: [0.5; 3], std: [0.5; 3] },
    };
    let names = TensorNames { canonical, saved: saved_qwen3, module: transformers_module };
    let text = TextConfig::parse(decoder(&source), decoder_kind)?;
    parse(source, names, text, vision, patches, layout_with_timestamps)
}

fn section(source: &Value) -> std::result::Result<&Value, String> {
    source.get("vision_config").ok_or_else(|| "`vision_config` is missing".to_owned())
}

/// Returns the decoder's section; the config itself where it has none, as in the first releases of Qwen2-VL and Qwen2.5-VL.
fn decoder(source: &Value) -> &Value {
    source.get("text_config").filter(|section| !section.is_null()).unwrap_or(source)
}

fn parse(
    source: Value,
    names: TensorNames,
    mut text: TextConfig,
    vision: QwenVision,
    patches: PatchProcessor,
    layout: fn(&ModelConfig, &Frames) -> Result<PromptLayout>,
) -> std::result::Result<ModelConfig, String> {
    text.tie_word_embeddings |= source["tie_word_embeddings"].as_bool().unwrap_or(false);
    if vision.out_hidden_size != text.hidden_size {
        let widths = format!("{}, the decoder's {}", vision.out_hidden_size, text.hidden_size);
        return Err(format!("vision_config.out_hidden_size is {widths}"));
    }
    let token = source["video_token_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let placeholder = Placeholder::Token(token.ok_or("`video_token_id` is missing")?);
    Ok(ModelConfig {
        names,
        text,
        vision: VisionConfig::Qwen(vision),
        placeholder,
        content_type: "video",
        layout,
        processor: ImageProcessor::Patches(patches),
        extra_tensors: BTreeMap::new(),
        unused_prefixes: Vec::new(),
        external_tower: None,
        source,
    })
}

/// Maps tensor names of transformers 4 and 5 to this crate's.
fn canonical(name: &str) -> String {
    if name.starts_with("lm_head.") {
        return format!("language_model.{name}");
    }
    let rest = name.strip_prefix("model.").unwrap_or(name);
    if rest.starts_with("visual.") {
        return rest.to_owned();
    }
    match rest.strip_prefix("language_model.") {
        Some(rest) => format!("language_model.model.{rest}"),
        None => format!("language_model.model.{rest}"),
    }
}

/// Maps this crate's tensor names to those that transformers 5 saves for Qwen2-VL and Qwen2.5-VL: those of their first releases.
fn saved_qwen2(canonical: &str) -> String {
    match canonical.strip_prefix("language_model.model.") {
        Some(rest) => format!("model.{rest}"),
        None => canonical.strip_prefix("language_model.").unwrap_or(canonical).to_owned(),
    }
}

/// Maps this crate's tensor names to those that transformers 5 saves for Qwen3-VL.
fn saved_qwen3(canonical: &str) -> String {
    match canonical.strip_prefix("language_model.model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None if canonical.starts_with("visual.") => format!("model.{canonical}"),
        None => canonical.strip_prefix("language_model.").unwrap_or(canonical).to_owned(),
    }
}

fn vision(config: &ModelConfig) -> Result<&QwenVision> {
    match &config.vision {
        VisionConfig::Qwen(vision) => Ok(vision),
        _ => Err(TorchError::Engine("a Qwen model with another's tower".to_owned())),
    }
}

/// Lays out a video as one block whose time axis counts steps (Qwen2-VL).
fn layout_in_steps(config: &ModelConfig, frames: &Frames) -> Result<PromptLayout> {
    let grid = config.processor.grid(frames)?;
    Ok(PromptLayout { text: None, blocks: vec![block(grid, grid.steps, vision(config)?, 1.0)] })
}

/// Lays out a video as one block whose time axis advances `tokens_per_second` positions a second (Qwen2.5-VL). Seconds
/// per grid step are `temporal_patch_size / sampled fps`, as in transformers and qwen-vl-utils, whatever the frames' own
/// timestamps.
fn layout_with_time(config: &ModelConfig, frames: &Frames) -> Result<PromptLayout> {
    let vision = vision(config)?;
    let grid = config.processor.grid(frames)?;
    let seconds = vision.temporal_patch_size as f64 * frames.duration / frames.len() as f64;
    let interval = vision.tokens_per_second as f32 * seconds as f32;
    Ok(PromptLayout { text: None, blocks: vec![block(grid, grid.steps, vision, interval)] })
}

/// Lays out each step of time as a block of its own behind its timestamp as text (Qwen3-VL).
fn layout_with_timestamps(config: &ModelConfig, frames: &Frames) -> Result<PromptLayout> {
    let vision = vision(config)?;
    let grid = config.processor.grid(frames)?;
    let mut text = String::new();
    for step in 0..grid.steps {
        let seconds = step_time(frames, step as usize, vision.temporal_patch_size as usize);
        write!(text, "<{seconds:.1} seconds>{START}{VIDEO}{END}")
            .map_err(|error| TorchError::Template(error.to_string()))?;
    }
    let blocks = (0..grid.steps).map(|_| block(grid, 1, vision, 1.0)).collect();
    Ok(PromptLayout { text: Some(text), blocks })
}

fn block(grid: PatchGrid, steps: i64, vision: &QwenVision, interval: f32) -> FeatureBlock {
    let merged = |size: i64| (size / vision.spatial_merge_size) as usize;
    let (rows, columns) = (merged(grid.height), merged(grid.width));
    FeatureBlock::Grid(Grid { steps: steps as usize, rows, columns, interval })
}

/// Returns the mid-point in seconds of a step's first and last frame; the last frame is repeated for missing
/// ones.
fn step_time(frames: &Frames, step: usize, size: usize) -> f64 {
    let last = frames.len().saturating_sub(1);
    let at = |index: usize| frames.timestamps.get(index.min(last)).copied().unwrap_or_default();
    (at(step * size) + at(step * size + size - 1)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let cases = [
            (
                saved_qwen2 as fn(&str) -> String,
                "model.layers.0.mlp.up_proj.weight",
                "language_model.model.layers.0.mlp.up_proj.weight",
            ),
            (
                saved_qwen2 as fn(&str) -> String,
                "visual.blocks.0.norm1.weight",
                "visual.blocks.0.norm1.weight",
            ),
            (saved_qwen2 as fn(&str) -> String, "lm_head.weight", "language_model.lm_head.weight"),
            (saved_qwen3, "model.language_model.norm.weight", "language_model.model.norm.weight"),
            (saved_qwen3, "model.visual.pos_embed.weight", "visual.pos_embed.weight"),
            (saved_qwen3, "lm_head.weight", "language_model.lm_head.weight"),
        ];
        for (saved, file, ours) in cases {
            assert_eq!(canonical(file), ours);
            assert_eq!(saved(ours), file);
        }
        assert_eq!(canonical("model.language_model.norm.weight"), canonical("model.norm.weight"));
        assert_eq!(canonical("model.visual.merger.ln_q.weight"), "visual.merger.ln_q.weight");
    }

    #[test]
    fn a_step_lies_between_its_frames() {
        let frames = Frames::new(1, 1, vec![0; 9], vec![0.0, 0.5, 1.0]).unwrap();
        assert_eq!((step_time(&frames, 0, 2), step_time(&frames, 1, 2)), (0.25, 1.0));
        // Python writes halves to the even digit.
        assert_eq!(format!("{:.1} {:.1}", 0.25, 0.75), "0.2 0.8");
    }
}
