//! Qwen2.5-VL (arXiv 2502.13923) and Qwen3-VL (arXiv 2511.21631), as transformers 5 has them.

use std::fmt::Write;

use isr_api::Frames;
use serde_json::Value;

use super::{Block, Family, Layout};
use crate::error::{Result, TorchError};
use crate::model::config::{ModelConfig, Placeholder, TextConfig, VisionConfig};
use crate::model::positions::Grid;
use crate::model::preprocess::{PatchGrid, Recipe};
use crate::model::vision::QwenVision;

const START: &str = "<|vision_start|>";
const VIDEO: &str = "<|video_pad|>";
const END: &str = "<|vision_end|>";

/// Interprets a config; Qwen2.5-VL's own files have the decoder's settings at the top level.
pub(super) fn parse(family: Family, source: Value) -> std::result::Result<ModelConfig, String> {
    let section = source.get("vision_config").ok_or("`vision_config` is missing")?;
    let vision = match family {
        Family::Qwen3Vl => QwenVision::qwen3(section)?,
        _ => QwenVision::qwen2_5(section)?,
    };
    let kind = if family == Family::Qwen3Vl { "qwen3_vl_text" } else { "qwen2_5_vl_text" };
    let mut text = TextConfig::parse(source.get("text_config").unwrap_or(&source), kind)?;
    text.tie_word_embeddings |= source["tie_word_embeddings"].as_bool().unwrap_or(false);
    if vision.out_hidden_size != text.hidden_size {
        let widths = format!("{}, the decoder's {}", vision.out_hidden_size, text.hidden_size);
        return Err(format!("vision_config.out_hidden_size is {widths}"));
    }
    let token = source["video_token_id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let placeholder = Placeholder::Token(token.ok_or("`video_token_id` is missing")?);
    let recipe = match family {
        Family::Qwen3Vl => Recipe::qwen3(&vision),
        _ => Recipe::qwen2_5(&vision),
    };
    Ok(ModelConfig { family, text, vision: VisionConfig::Qwen(vision), placeholder, recipe, source })
}

/// Maps the names of older and newer transformers versions to one.
pub(super) fn canonical(name: &str) -> String {
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

/// What transformers 5 saves: Qwen2.5-VL keeps the names of its first release.
pub(super) fn written(family: Family, canonical: &str) -> String {
    let inner = canonical.strip_prefix("language_model.model.");
    match (family, inner) {
        (Family::Qwen3Vl, Some(rest)) => format!("model.language_model.{rest}"),
        (_, Some(rest)) => format!("model.{rest}"),
        (Family::Qwen3Vl, None) if canonical.starts_with("visual.") => format!("model.{canonical}"),
        _ => canonical.strip_prefix("language_model.").unwrap_or(canonical).to_owned(),
    }
}

fn vision(config: &ModelConfig) -> Result<&QwenVision> {
    match &config.vision {
        VisionConfig::Qwen(vision) => Ok(vision),
        VisionConfig::Clip(_) => Err(TorchError::Engine("a Qwen model with a CLIP tower".to_owned())),
    }
}

/// Qwen2.5-VL: one block; the position on the axis of time counts `tokens_per_second`.
pub(super) fn layout_with_time(config: &ModelConfig, frames: &Frames) -> Result<Layout> {
    let vision = vision(config)?;
    let grid = config.recipe.grid(frames)?;
    let seconds = vision.temporal_patch_size as f64 * frame_interval(frames);
    let interval = vision.tokens_per_second as f32 * seconds as f32;
    Ok(Layout { text: None, blocks: vec![block(grid, grid.steps, vision, interval)] })
}

/// Qwen3-VL: each step of time is a block of its own, behind its time in words.
pub(super) fn layout_with_timestamps(config: &ModelConfig, frames: &Frames) -> Result<Layout> {
    let vision = vision(config)?;
    let grid = config.recipe.grid(frames)?;
    let mut text = String::new();
    for step in 0..grid.steps {
        let seconds = step_time(frames, step as usize, vision.temporal_patch_size as usize);
        write!(text, "<{seconds:.1} seconds>{START}{VIDEO}{END}")
            .map_err(|error| TorchError::Template(error.to_string()))?;
    }
    let blocks = (0..grid.steps).map(|_| block(grid, 1, vision, 1.0)).collect();
    Ok(Layout { text: Some(text), blocks })
}

fn block(grid: PatchGrid, steps: i64, vision: &QwenVision, interval: f32) -> Block {
    let merged = |size: i64| (size / vision.spatial_merge_size) as usize;
    let (rows, columns) = (merged(grid.height), merged(grid.width));
    Block::Grid(Grid { steps: steps as usize, rows, columns, interval })
}

/// Mean time from one frame to the next, in seconds; 0 for a single frame.
fn frame_interval(frames: &Frames) -> f64 {
    match frames.timestamps.as_slice() {
        [first, .., last] => (last - first) / (frames.len() - 1) as f64,
        _ => 0.0,
    }
}

/// The middle of a step's first and last frame; the last frame stands in for missing ones.
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
                Family::Qwen25Vl,
                "model.layers.0.mlp.up_proj.weight",
                "language_model.model.layers.0.mlp.up_proj.weight",
            ),
            (Family::Qwen25Vl, "visual.blocks.0.norm1.weight", "visual.blocks.0.norm1.weight"),
            (Family::Qwen25Vl, "lm_head.weight", "language_model.lm_head.weight"),
            (Family::Qwen3Vl, "model.language_model.norm.weight", "language_model.model.norm.weight"),
            (Family::Qwen3Vl, "model.visual.pos_embed.weight", "visual.pos_embed.weight"),
            (Family::Qwen3Vl, "lm_head.weight", "language_model.lm_head.weight"),
        ];
        for (family, file, ours) in cases {
            assert_eq!(canonical(file), ours);
            assert_eq!(written(family, ours), file);
        }
        assert_eq!(canonical("model.language_model.norm.weight"), canonical("model.norm.weight"));
        assert_eq!(canonical("model.visual.merger.ln_q.weight"), "visual.merger.ln_q.weight");
    }

    #[test]
    fn a_step_lies_between_its_frames() {
        let frames = Frames { width: 1, height: 1, rgb: vec![0; 9], timestamps: vec![0.0, 0.5, 1.0] };
        assert_eq!((step_time(&frames, 0, 2), step_time(&frames, 1, 2)), (0.25, 1.0));
        assert_eq!(frame_interval(&frames), 0.5);
        // Python writes halves to the even digit.
        assert_eq!(format!("{:.1} {:.1}", 0.25, 0.75), "0.2 0.8");
    }
}
