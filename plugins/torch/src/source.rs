//! What `policy.model` names: a checkpoint folder, an adapter folder that names its base, or either on the
//! hub.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::hub;
use crate::lora::{base_of, is_adapter};
use crate::manifest;

/// The folders that a model is loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The checkpoint.
    pub(crate) base: PathBuf,
    /// The adapter on it.
    pub(crate) adapter: Option<PathBuf>,
}

impl Source {
    /// Tells which, and downloads what is on the hub; `adapter` is one that a config names beside its model.
    ///
    /// # Errors
    /// A model that cannot be had; an adapter whose base is not there; adapters on adapters.
    pub(crate) fn of(model: &Path, adapter: Option<&Path>) -> Result<Self> {
        let local = |name: &Path| hub::resolve(&name.to_string_lossy());
        let (model, adapter) = (local(model)?, adapter.map(local).transpose()?);
        match adapter {
            None if is_adapter(&model) => Ok(Self { base: base_of(&model)?, adapter: Some(model) }),
            adapter => Ok(Self { base: model, adapter }),
        }
    }

    /// Compares the folders with their manifests.
    pub(crate) fn verify(&self, thorough: bool) -> Result<()> {
        let folders = std::iter::once(&self.base).chain(&self.adapter);
        folders.into_iter().try_for_each(|folder| manifest::verify(folder, thorough))
    }
}
