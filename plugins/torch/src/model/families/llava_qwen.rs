//! Checkpoints of the LLaVA-NeXT repository with a Qwen2 decoder and a SigLIP tower (`LlavaQwenForCausalLM`): LLaVA-OneVision
//! (arXiv 2408.03326) and LLaVA-Video (arXiv 2410.02713) as they are released. Pooling, newlines and the time instruction are
//! those of `llava/model/llava_arch.py` and `llava/train/train.py` at commit df17966.

use std::collections::BTreeMap;
use std::path::Path;

use isr_api::Frames;
use serde_json::{Value, json};

use super::llava_llama::names::{canonical, saved};
use super::llava_llama::tower;
use super::llava_onevision::{siglip, siglip_shape};
use crate::error::{Result, TorchError};
use crate::model::activation::Activation;
use crate::model::config::{BuiltIn, ModelConfig, Placeholder, VisionConfig};
use crate::model::external_tower;
use crate::model::names::TensorNames;
use crate::model::preprocess::{ImageProcessor, Normalization};
use crate::model::projector::ProjectorConfig;
use crate::model::prompt_layout::{FeatureBlock, PromptLayout};
use crate::model::text_config::TextConfig;
use crate::model::vision::{Pool, SiglipVision};

/// Placeholder of a video, as of a picture: text at which the prompt is split.
const VIDEO: &str = "<image>";
/// Key that names the tower.
const TOWER: &str = "mm_vision_tower";

/// Place of newline embeddings among a video's features.
#[derive(Clone, Copy, PartialEq)]
enum Newlines {
    /// None.
    None,
    /// One behind the video.
    Video,
    /// One behind each frame.
    Frame,
    /// One behind each row of a frame.
    Row,
}

/// Interprets a config after [`complete`].
pub(super) fn parse(source: Value) -> std::result::Result<ModelConfig, String> {
    let text = TextConfig::parse(&source, "qwen2")?;
    let on = |key: &str| source[key].as_bool().unwrap_or(false);
    if on("mm_use_im_start_end") {
        return Err("marks around a video (mm_use_im_start_end) are not supported".to_owned());
    }
    if on("add_faster_video") {
        return Err(
            "add_faster_video is not supported; LLaVA-NeXT's own code has no features for it".to_owned()
        );
    }
    if let Some(kind) = source["mm_projector_type"].as_str().filter(|kind| *kind != "mlp2x_gelu") {
        return Err(format!("mm_projector_type `{kind}` is not supported; known: mlp2x_gelu"));
    }
    if let Some(kind) = source["mm_resampler_type"].as_str().filter(|kind| !kind.is_empty()) {
        return Err(format!("mm_resampler_type `{kind}` is not supported; known: none"));
    }
    let name = source[TOWER].as_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("names no tower: {TOWER} is missing"))?.to_owned();
    let section = source.get("vision_config").filter(|section| section.is_object()).ok_or_else(|| {
        format!("the tower `{name}` is neither in the checkpoint nor in a folder beside it: put it there")
    })?;
    let shape = siglip_shape(section)?;
    let side = shape.image_size / shape.patch_size;
    newlines(&source)?;
    let projector = ProjectorConfig {
        input: shape.hidden_size,
        activation: Activation::Gelu,
        has_bias: true,
        has_norm: false,
        pool: pool(&source, side)?.map(|pool| (pool, side)),
        has_newline: unpads(&source),
    };
    Ok(ModelConfig {
        names: TensorNames { canonical, saved, module: saved },
        text,
        processor: ImageProcessor::square(
            shape.image_size,
            Normalization { mean: [0.5; 3], std: [0.5; 3] },
        ),
        vision: VisionConfig::Siglip(SiglipVision {
            feature_layers: vec![shape.num_hidden_layers],
            shape,
            projector,
        }),
        placeholder: Placeholder::Text(VIDEO, BuiltIn::Qwen15),
        content_type: "video",
        layout,
        extra_tensors: BTreeMap::new(),
        unused_prefixes: Vec::new(),
        external_tower: Some(name),
        source,
    })
}

/// Adds `vision_config`, which these configs lack: from the shapes of the tower's tensors in the checkpoint, otherwise
/// from the tower's own folder. Its last layer is not run, whatever `mm_vision_select_layer` says; checkpoints do not
/// have it.
pub(super) fn complete(folder: &Path, source: &mut Value) -> Result<()> {
    if source.get("vision_config").is_some_and(Value::is_object) {
        return Ok(());
    }
    let mut found = tower::config_from_shapes(folder, SiglipVision::PREFIX)?;
    let beside = source[TOWER].as_str().and_then(|name| external_tower::find(folder, name));
    if let (None, Some(beside)) = (&found, beside) {
        let mut config = tower::config(&beside)?;
        if let Some(layers) = config["num_hidden_layers"].as_i64() {
            config["num_hidden_layers"] = json!(layers - 1);
        }
        found = Some(config);
    }
    if let Some(found) = found {
        source["vision_config"] = found;
    }
    Ok(())
}

/// Returns the pooling of a frame's features; `None` for a stride of 1.
fn pool(source: &Value, side: i64) -> std::result::Result<Option<Pool>, String> {
    let stride = source["mm_spatial_pool_stride"].as_i64().unwrap_or(2);
    if stride < 1 || stride > side {
        return Err(format!("mm_spatial_pool_stride is {stride}, of {side} patches along a side"));
    }
    let pool = match source["mm_spatial_pool_mode"].as_str() {
        Some("average") => Pool::Average(stride),
        Some("max") => Pool::Max(stride),
        None | Some("bilinear") => Pool::Bilinear(stride),
        Some(other) => {
            let known = "average, max, bilinear";
            return Err(format!("mm_spatial_pool_mode `{other}` is not supported; known: {known}"));
        }
    };
    Ok((stride > 1).then_some(pool))
}

/// Returns whether the checkpoint has a newline embedding.
fn unpads(source: &Value) -> bool {
    source["mm_patch_merge_type"].as_str().unwrap_or_default().contains("unpad")
}

fn newlines(source: &Value) -> std::result::Result<Newlines, String> {
    let merge = source["mm_patch_merge_type"].as_str().unwrap_or("flat");
    if merge == "flat" {
        return Ok(Newlines::None);
    }
    if !merge.starts_with("spatial") {
        return Err(format!(
            "mm_patch_merge_type `{merge}` is not supported; known: flat, spatial, spatial_unpad"
        ));
    }
    let place = source["mm_newline_position"].as_str().unwrap_or("one_token");
    match place {
        "no_token" => Ok(Newlines::None),
        "one_token" if unpads(source) => Ok(Newlines::Video),
        "one_token" => Ok(Newlines::None),
        "frame" | "grid" if !unpads(source) => Err(format!(
            "mm_newline_position `{place}` needs mm_patch_merge_type spatial_unpad, but it is `{merge}`"
        )),
        "frame" => Ok(Newlines::Frame),
        "grid" => Ok(Newlines::Row),
        other => {
            let known = "grid, frame, one_token, no_token";
            Err(format!("mm_newline_position `{other}` is not supported; known: {known}"))
        }
    }
}

/// Lays out a video with its newlines, and behind it the time instruction if the model was trained with it.
fn layout(config: &ModelConfig, frames: &Frames) -> Result<PromptLayout> {
    let side = siglip(config)?.prompt_side() as usize;
    let (count, tokens) = (frames.len(), side * side);
    let newlines = newlines(&config.source).map_err(TorchError::Engine)?;
    let block = match newlines {
        Newlines::None => FeatureBlock::Row(count * tokens),
        Newlines::Video => FeatureBlock::Lines { count: 1, length: count * tokens },
        Newlines::Frame => FeatureBlock::Lines { count, length: tokens },
        Newlines::Row => FeatureBlock::Lines { count: count * side, length: side },
    };
    let instructs = config.source["add_time_instruction"].as_bool().unwrap_or(false);
    let text = instructs.then(|| format!("{VIDEO}\n{}", time_instruction(frames)));
    Ok(PromptLayout { text, blocks: vec![block] })
}

/// Writes the times of a video's frames in the words of LLaVA-Video's training data.
fn time_instruction(frames: &Frames) -> String {
    let times: Vec<String> = frames.timestamps.iter().map(|time| format!("{time:.2}s")).collect();
    format!(
        "The video lasts for {:.2} seconds, and {} frames are uniformly sampled from it. These frames are located at {}.Please \
         answer the following questions related to this video.",
        frames.duration,
        frames.len(),
        times.join(",")
    )
}
