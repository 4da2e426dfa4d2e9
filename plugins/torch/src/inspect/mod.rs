//! What a model is and what memory it needs, from its config and the headers of its weights.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use isr_core::Frames;
use serde::Serialize;

use crate::device::Precision;
use crate::error::{Result, TorchError};
use crate::lora::{AdapterSummary, summary};
use crate::model::families::read_config;
use crate::model::{ModelConfig, layout_of};
use crate::model_paths::ModelPaths;
use crate::tensors::TensorFolder;
pub use memory::Memory;

/// For what use the memory is estimated.
#[derive(Clone, Copy, Debug)]
pub struct InspectConfig {
    /// Frames of a video.
    pub frames: u32,
    /// Their width and height in pixels: some encoders make more features of larger frames.
    pub size: [u32; 2],
    /// Sequences at once; pairs in training.
    pub batch: u64,
    /// Text tokens of a sequence, prompt and answer.
    pub tokens: u64,
    /// Type that the model is loaded in.
    pub precision: Precision,
    /// Whether every file's digest is compared with the checkpoint's manifest.
    pub verify: bool,
}

/// What [`inspect`] finds.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `model_type` of `config.json`.
    pub family: String,
    /// All parameters.
    pub parameters: u64,
    /// The same by part of the model.
    pub parts: Vec<ModelPart>,
    /// Types of the stored tensors.
    pub dtypes: Vec<String>,
    /// Size of all tensors as stored.
    pub bytes: u64,
    /// Files that they are in.
    pub files: usize,
    /// Visual features of the given video, as many tokens.
    pub visual_tokens: u64,
    /// Longest sequence, in tokens.
    pub context: u64,
    /// Length of a sequence of the given frames and text, in tokens.
    pub sequence: u64,
    /// Estimated memory, in bytes.
    pub memory: Memory,
    /// The adapter, where the folder is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterSummary>,
}

/// One part of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelPart {
    /// Its prefix among our tensor names: `language_model`, `vision_tower`, ...
    pub name: String,
    /// Its parameters.
    pub parameters: u64,
}

/// Describes a checkpoint folder, or an adapter's. Weights are not read.
///
/// # Errors
/// What is wrong with the folder: config, headers, tensors that do not fit the config, files that are not
/// what the manifest says.
pub fn inspect(model: &Path, given: &InspectConfig) -> Result<Inspection> {
    let source = ModelPaths::resolve(model, None)?;
    source.verify(given.verify)?;
    let config = read_config(&source.base)?;
    let files = TensorFolder::open(&source.base)?;
    layout_of(&source.base, &config, |layout| layout.checked(&layout.open(&source.base)?).map(|_| ()))?;
    let adapter = source.adapter.as_deref().map(|folder| summary(folder, &source.base)).transpose()?;
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    for stored in &files.tensors {
        let name = config.names.canonical(&stored.name);
        let part = name.split('.').next().unwrap_or_default().to_owned();
        *parts.entry(part).or_insert(0) += stored.count() as u64;
    }
    let dtypes: BTreeSet<String> =
        files.tensors.iter().map(|stored| format!("{:?}", stored.dtype)).collect();
    let parameters = parts.values().sum();
    let visual = visual_tokens(&config, given)?;
    let sequence = visual.saturating_add(given.tokens);
    let family = config.source["model_type"].as_str();
    Ok(Inspection {
        family: family.ok_or_else(|| TorchError::checkpoint(model, "has no model_type"))?.to_owned(),
        parameters,
        bytes: files.tensors.iter().map(|stored| stored.bytes as u64).sum(),
        files: files.count(),
        dtypes: dtypes.into_iter().collect(),
        visual_tokens: visual,
        context: config.text.max_position_embeddings as u64,
        sequence,
        memory: Memory::estimate(&config.text, parameters, sequence, given),
        parts: parts.into_iter().map(|(name, parameters)| ModelPart { name, parameters }).collect(),
        adapter,
    })
}

/// Features of a video of the given frames.
fn visual_tokens(config: &ModelConfig, given: &InspectConfig) -> Result<u64> {
    let [width, height] = given.size;
    let timestamps = (0..given.frames).map(f64::from).collect();
    let frames = Frames { width, height, rgb: Vec::new(), timestamps };
    let [steps, tokens, _] = config.feature_shape(&frames)?;
    Ok((steps * tokens) as u64)
}
