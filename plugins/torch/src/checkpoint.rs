//! Checkpoint folders in the Hugging Face layout.

use std::collections::BTreeMap;
use std::path::Path;

use isr_api::Fingerprint;
use serde_json::{Value, json};
use tch::Kind;

use crate::chat::additional_templates;
use crate::error::{Result, TorchError};
use crate::json_file;
use crate::manifest::Manifest;
use crate::model::VideoLmm;

/// Files that are copied with the weights, if they exist.
const COMPANIONS: [&str; 12] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "README.md",
    "LICENSE",
];

/// Content of a checkpoint folder beside config and weights.
pub(crate) struct Checkpoint {
    /// Files by name.
    companions: BTreeMap<String, Vec<u8>>,
    /// `generation_config.json`.
    generation: Value,
}

impl Checkpoint {
    /// Reads the companions of a checkpoint folder; `stops` are the end-of-turn tokens if it has no generation config.
    pub(crate) fn read(folder: &Path, stops: &[u32]) -> Result<Self> {
        let mut companions = BTreeMap::new();
        let names = COMPANIONS.map(str::to_owned).into_iter();
        for name in names.chain(additional_templates(folder)?) {
            let path = folder.join(&name);
            if path.exists() {
                companions.insert(name, std::fs::read(&path).map_err(TorchError::io("read", &path))?);
            }
        }
        let mut generation = json_file::read_optional(&folder.join("generation_config.json"))?;
        if generation.is_null() {
            generation = json!({ "eos_token_id": stops });
        }
        Ok(Self { companions, generation })
    }

    /// Writes config, weights (in files of at most `limit` bytes), tokenizer and companions into a folder. A model
    /// with an adapter is saved as the adapter alone. Returns the fingerprint of the weights, if `fingerprint` and if
    /// they were written.
    pub(crate) fn save(
        &self,
        folder: &Path,
        model: &VideoLmm,
        limit: u64,
        manifest: &mut Manifest,
        fingerprint: bool,
    ) -> Result<Option<Fingerprint>> {
        if let Some(adapter) = model.weights.adapter() {
            adapter.save(folder, manifest)?;
            return Ok(None);
        }
        let mut config = model.config.source.clone();
        if let Value::Object(entries) = &mut config {
            entries.remove("torch_dtype");
            let dtype = if model.kind == Kind::BFloat16 { "bfloat16" } else { "float32" };
            entries.insert("dtype".to_owned(), json!(dtype));
        }
        json_file::write(&folder.join("config.json"), &config)?;
        json_file::write(&folder.join("generation_config.json"), &self.generation)?;
        for (name, bytes) in &self.companions {
            let path = folder.join(name);
            if let Some(parent) = path.parent().filter(|parent| *parent != folder) {
                std::fs::create_dir_all(parent).map_err(TorchError::io("create", parent))?;
            }
            std::fs::write(&path, bytes).map_err(TorchError::io("write", &path))?;
        }
        let names = model.config.names;
        model.weights.write(folder, &|name| names.saved(name), limit, manifest, fingerprint)
    }
}

/// Copies configs and companions from one checkpoint folder to another.
pub(crate) fn copy_companions(from: &Path, to: &Path) -> Result<()> {
    for name in COMPANIONS.iter().chain(&["config.json", "generation_config.json"]) {
        let path = from.join(name);
        if path.exists() {
            std::fs::copy(&path, to.join(name)).map_err(TorchError::io("copy", &path))?;
        }
    }
    Ok(())
}
