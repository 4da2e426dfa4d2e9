//! Inspection of a checkpoint: parameters, dtypes and memory estimates, from its config and the headers of its
//! weights.

#[cfg(test)]
mod checkpoints;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use isr_api::Frames;
use serde::Serialize;

pub use crate::chat::ChatSummary;
use crate::chat::{Chat, ReasoningConfig};
use crate::device::Precision;
use crate::error::{Result, TorchError};
use crate::lora::{AdapterSummary, summary};
use crate::model::families::{family, read_config};
use crate::model::tensor_layout::Found;
use crate::model::{ModelConfig, Quantization, layout_of, output_layer};
use crate::model_paths::ModelPaths;
use crate::tensors::TensorFolder;
use crate::train::ShardConfig;
pub use memory::Memory;

/// Workload for which memory is estimated.
#[derive(Clone, Copy, Debug)]
pub struct InspectConfig {
    /// Frames in a video.
    pub frames: u32,
    /// Width and height of a frame in pixels; the number of features may depend on it.
    pub size: [u32; 2],
    /// Batch size: sequences in inference, pairs in training.
    pub batch: u64,
    /// Text tokens of a sequence, prompt and answer together.
    pub tokens: u64,
    /// Dtype that the model is loaded in.
    pub precision: Precision,
    /// Whether to verify the digest of every file.
    pub verify: bool,
    /// Number of processes that train together, a device each.
    pub processes: u64,
    /// What they divide.
    pub shard: ShardConfig,
    /// Quantisation of the decoder's linear layers at load.
    pub quantization: Option<Quantization>,
}

/// Result of [`inspect`].
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Model family, a `model_type` of transformers or of the LLaVA repositories.
    pub family: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Number of parameters that a token is multiplied with, where it goes through some of a layer's experts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_parameters: Option<u64>,
    /// Number of parameters of each part of the model.
    pub parts: Vec<ModelPart>,
    /// Whether the output layer is the embedding (weight tying).
    pub tied_output_layer: bool,
    /// Dtypes of the stored tensors.
    pub dtypes: Vec<String>,
    /// Size of all stored tensors in bytes.
    pub bytes: u64,
    /// Number of weight files.
    pub files: usize,
    /// Number of visual tokens of the given video.
    pub visual_tokens: u64,
    /// Context length in tokens.
    pub context: u64,
    /// Length of a sequence of the given frames and text, in tokens.
    pub sequence: u64,
    /// Memory estimates in bytes.
    pub memory: Memory,
    /// Chat template and stop tokens; `None` if they cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatSummary>,
    /// Prompt of a question about the given video, as the template writes it: with its placeholder for the features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Why chat template or tokenizer cannot be used, at all or for a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_error: Option<String>,
    /// Summary of the adapter, if the folder is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterSummary>,
}

/// Part of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelPart {
    /// Prefix of its canonical tensor names: `language_model`, `vision_tower`, ...
    pub name: String,
    /// Number of parameters.
    pub parameters: u64,
}

/// Inspects a checkpoint or adapter folder from its headers. Reads no weights but an output layer that the config says
/// is tied.
///
/// # Errors
/// An invalid config or header, tensors that do not fit the config, or files that differ from the manifest.
pub fn inspect(model: &Path, given: &InspectConfig) -> Result<Inspection> {
    let paths = ModelPaths::resolve(model, None)?;
    paths.verify(given.verify)?;
    let mut config = read_config(&paths.base)?;
    output_layer::settle(&paths.base, &mut config)?;
    let files = TensorFolder::open(&paths.base)?;
    let sizes = layout_of(&paths.base, &config, |layout| {
        let sources = layout.open(&paths.base)?;
        let found = layout.checked(&sources)?;
        let size = |(name, found): (String, Found<'_>)| {
            let four_bits = found.four_bits(&name, given.quantization);
            (name, found.count(), four_bits)
        };
        Ok(found.into_iter().map(size).collect::<Vec<_>>())
    })?;
    let adapter = paths.adapter.as_deref().map(|folder| summary(folder, &paths.base)).transpose()?;
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    let layers = sizes.iter().filter(|(name, ..)| name.starts_with("language_model.model.layers."));
    let layers: u64 = layers.map(|(_, count, _)| count).sum();
    let experts = sizes.iter().filter(|(name, ..)| name.contains(".mlp.experts."));
    let in_experts: u64 = experts.map(|(_, count, _)| count).sum();
    let four_bits: Vec<[u64; 2]> =
        sizes.iter().filter_map(|(_, count, bits)| Some([*count, (*bits)?])).collect();
    for (name, count, _) in sizes {
        let part = name.split('.').next().unwrap_or_default().to_owned();
        *parts.entry(part).or_insert(0) += count;
    }
    let dtypes: BTreeSet<String> =
        files.tensors.iter().map(|stored| format!("{:?}", stored.dtype)).collect();
    let parameters = parts.values().sum();
    let experts = config.text.experts.as_ref();
    let active_parameters = experts.map(|experts| parameters - experts.idle(in_experts));
    let visual = visual_tokens(&config, given)?;
    let sequence = visual.saturating_add(given.tokens);
    let chat = Chat::read(&paths.base, &config, None, &ReasoningConfig::default());
    let example = |chat: &Chat| chat.example(video(given), |frames| config.layout(frames));
    let (prompt, chat_error) = match chat.as_ref().map(example) {
        Ok(Ok(prompt)) => (Some(prompt), None),
        Ok(Err(error)) => (None, Some(error.to_string())),
        Err(error) => (None, Some(error.to_string())),
    };
    let family = family(&config.source).map_err(|reason| TorchError::checkpoint(model, reason))?;
    Ok(Inspection {
        family: family.to_owned(),
        parameters,
        active_parameters,
        tied_output_layer: config.text.tie_word_embeddings,
        bytes: files.tensors.iter().map(|stored| stored.bytes as u64).sum(),
        files: files.count(),
        dtypes: dtypes.into_iter().collect(),
        visual_tokens: visual,
        context: config.text.max_position_embeddings as u64,
        sequence,
        memory: Memory::estimate(&config.text, [parameters, layers], &four_bits, sequence, given),
        parts: parts.into_iter().map(|(name, parameters)| ModelPart { name, parameters }).collect(),
        chat: chat.ok().map(|chat| chat.summary()),
        prompt,
        chat_error,
        adapter,
    })
}

/// Returns the given video, a frame a second, without pixels.
fn video(given: &InspectConfig) -> Frames {
    let [width, height] = given.size;
    let timestamps = (0..given.frames).map(f64::from).collect();
    Frames { width, height, rgb: Vec::new(), timestamps, duration: f64::from(given.frames) }
}

/// Returns the number of visual tokens of the given video.
fn visual_tokens(config: &ModelConfig, given: &InspectConfig) -> Result<u64> {
    Ok(config.layout(&video(given))?.blocks.iter().map(|block| block.len() as u64).sum())
}
