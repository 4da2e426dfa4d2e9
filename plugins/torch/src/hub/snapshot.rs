//! Cached snapshots: which files a model needs, and which of them are present.
//!
//! The cache's layout is that of `huggingface_hub`:
//! ```text
//! CACHE/models--owner--name/refs/main                 the commit of a branch
//!                          /snapshots/COMMIT/FILE     links to
//!                          /blobs/ETAG
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::HubError;
use super::model_id::ModelId;
use super::settings::Hub;
use crate::chat::ADDITIONAL;

/// Index of sharded weights.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Weight files of a repository without an index.
const WEIGHTS: [&str; 2] = ["model.safetensors", "adapter_model.safetensors"];

/// Tokenizer files, of which one suffices.
const TOKENIZERS: [&str; 3] = ["tokenizer.json", "tokenizer.model", "vocab.json"];

/// Extensions of configs, templates and vocabularies.
const ENDINGS: [&str; 4] = [".json", ".jinja", ".model", ".txt"];

impl Hub {
    /// Returns the cached snapshot if it is complete.
    pub(crate) fn cached(&self, id: &ModelId) -> Result<PathBuf, HubError> {
        let repository = self.folder(id)?;
        let offline = |missing: String| HubError::Offline {
            id: id.clone(),
            repository: id.repository.clone(),
            missing,
            cache: self.cache.clone().unwrap_or_default(),
        };
        let commit = fs::read_to_string(repository.join("refs").join(&id.revision));
        let commit = commit.map_or_else(|_| id.revision.clone(), |text| text.trim().to_owned());
        let folder = repository.join("snapshots").join(commit);
        match missing(&folder)? {
            None => Ok(folder),
            Some(_) if !folder.is_dir() => Err(offline("any file".to_owned())),
            Some(file) => Err(offline(file)),
        }
    }

    /// Returns the cache folder of a repository.
    pub(crate) fn folder(&self, id: &ModelId) -> Result<PathBuf, HubError> {
        let name = format!("models--{}", id.repository.replace('/', "--"));
        Ok(self.cache.as_ref().ok_or(HubError::NoCache)?.join(name))
    }
}

/// Returns the first required file that the folder lacks.
fn missing(folder: &Path) -> Result<Option<String>, HubError> {
    let has = |name: &str| folder.join(name).is_file();
    let config = ["config.json", "adapter_config.json"];
    if !config.iter().any(|name| has(name)) {
        return Ok(Some(config[0].to_owned()));
    }
    if has(INDEX) {
        let shards = shards(&folder.join(INDEX))?;
        if let Some(shard) = shards.into_iter().find(|shard| !has(shard)) {
            return Ok(Some(shard));
        }
    } else if !WEIGHTS.iter().any(|name| has(name)) {
        return Ok(Some(WEIGHTS[0].to_owned()));
    }
    let has_tokenizer = has(config[1]) || TOKENIZERS.iter().any(|name| has(name));
    Ok((!has_tokenizer).then(|| TOKENIZERS[0].to_owned()))
}

/// Returns the distinct shards of an index, sorted.
pub(crate) fn shards(index: &Path) -> Result<Vec<String>, HubError> {
    let text = fs::read_to_string(index).map_err(HubError::io("read", index))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| HubError::io("read", index)(std::io::Error::other(error)))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let names = map.into_iter().flatten().filter_map(|(_, shard)| shard.as_str());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns whether a file is a top-level config, template or vocabulary, or one of the additional templates.
pub(crate) fn is_small_part(name: &str) -> bool {
    let template = name.strip_prefix(ADDITIONAL).and_then(|name| name.strip_prefix('/'));
    let name = template.filter(|name| name.ends_with(".jinja")).unwrap_or(name);
    !name.contains('/') && ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Returns the weight files of a repository without an index: the standard names, else every top-level
/// safetensors file.
pub(crate) fn weights_without_index(names: &[String]) -> Vec<String> {
    let own = |name: &&String| WEIGHTS.contains(&name.as_str());
    let known: Vec<String> = names.iter().filter(own).cloned().collect();
    if !known.is_empty() {
        return known;
    }
    let is_weights = |name: &&String| !name.contains('/') && name.ends_with(".safetensors");
    names.iter().filter(is_weights).cloned().collect()
}
