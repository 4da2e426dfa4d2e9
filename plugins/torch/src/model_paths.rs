//! Resolution of the `model` key of a config: a checkpoint folder, an adapter folder that names its base, or either
//! on the hub.

use std::path::{Path, PathBuf};

use isr_config::did_you_mean;

use crate::error::Result;
use crate::hub::{self, HubError};
use crate::lora::{base_of, is_adapter};
use crate::manifest;

/// Folders that a model is loaded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelPaths {
    /// Checkpoint.
    pub(crate) base: PathBuf,
    /// Adapter on it.
    pub(crate) adapter: Option<PathBuf>,
}

impl ModelPaths {
    /// Resolves a model and an optional adapter, and downloads those on the hub. Blocks.
    ///
    /// # Errors
    /// A model that cannot be resolved; an adapter whose base is missing.
    pub(crate) fn resolve(model: &Path, adapter: Option<&Path>) -> Result<Self> {
        let local = |name: &Path| hub::resolve(&name.to_string_lossy());
        let (model, adapter) = (local(model)?, adapter.map(local).transpose()?);
        match adapter {
            None if is_adapter(&model) => Ok(Self { base: base_of(&model)?, adapter: Some(model) }),
            adapter => Ok(Self { base: model, adapter }),
        }
    }

    /// Verifies both folders against their manifests; digests of large files only if `thorough`.
    ///
    /// # Errors
    /// A missing or changed file, by name.
    pub(crate) fn verify(&self, thorough: bool) -> Result<()> {
        let folders = std::iter::once(&self.base).chain(&self.adapter);
        folders.into_iter().try_for_each(|folder| manifest::verify(folder, thorough))
    }
}

/// Checks that a model is a checkpoint folder, an adapter folder or a hub name, without network access.
///
/// # Errors
/// The model, and why it is none of these.
pub(crate) fn check_model(model: &Path) -> std::result::Result<(), String> {
    let wrong = match model.exists() {
        true if model.join("config.json").exists() || is_adapter(model) => return Ok(()),
        true => "holds no config.json".to_owned(),
        false => match hub::check(&model.to_string_lossy()) {
            Ok(()) => return Ok(()),
            #[cfg(not(feature = "hub"))]
            Err(HubError::Disabled { .. }) => {
                "is no folder, and this build cannot download it from the Hugging Face hub; build with the cargo \
                 feature `hub` of isr-torch, or give the path of a copy"
                    .to_owned()
            }
            Err(HubError::NotAnId { .. }) => {
                "is no model of the hub; write hf://owner/name or hf://owner/name@revision".to_owned()
            }
            Err(_) => format!("does not exist{}", did_you_mean(model)),
        },
    };
    Err(format!("model is {}, which {wrong}", model.display()))
}
