//! Resolution of model names to folders: local paths, and repositories of the Hugging Face hub.
//!
//! [`Hub::resolve`] maps the `model` key of a config to a folder:
//!
//! | text | meaning |
//! |---|---|
//! | a path that exists | that folder |
//! | `owner/name`, `owner/name@revision` | a model of the hub, where no such path exists |
//! | `hf://owner/name`, `hf://owner/name@revision` | a model of the hub |
//!
//! Repositories are cached in the hub's own cache (`HF_HUB_CACHE`, else `HF_HOME/hub`, else
//! `~/.cache/huggingface/hub`), in the layout that Python's `huggingface_hub` shares. Configs, tokenizer,
//! templates and safetensors weights are downloaded. An interrupted download resumes, in this process or in
//! the next. A branch is looked up at each use; if the hub is unreachable, a complete cached snapshot is used.
//!
//! Environment: `HF_TOKEN` for private and gated models (else the file that `hf auth login` writes),
//! `HF_HUB_OFFLINE=1` for the cache alone, `HF_ENDPOINT` for another hub.
//!
//! Downloads need the cargo feature `hub` of this crate (on by default). Without it, local paths resolve as
//! always and hub names fail with `HubError::Disabled`.

#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
mod error;
mod model_id;
#[cfg(feature = "hub")]
mod partial;
#[cfg(feature = "hub")]
mod progress;
#[cfg(feature = "hub")]
mod settings;
#[cfg(feature = "hub")]
mod snapshot;

use std::path::{Path, PathBuf};

use isr_config::did_you_mean;

#[cfg(feature = "hub")]
pub use error::FetchError;
pub use error::HubError;
pub use model_id::ModelId;
#[cfg(feature = "hub")]
pub use settings::Hub;

/// Resolves a path or hub name to a model folder with the settings of the environment, and downloads what is
/// missing. Blocks.
///
/// # Errors
/// See [`HubError`].
#[cfg(feature = "hub")]
pub(crate) fn resolve(model: &str) -> Result<PathBuf, HubError> {
    Hub::from_env().resolve(model)
}

/// Resolves the path of a model folder; hub names are refused.
///
/// # Errors
/// `HubError::Disabled` for a hub name; [`HubError::NoSuchModel`] and [`HubError::NotAnId`] otherwise.
#[cfg(not(feature = "hub"))]
pub(crate) fn resolve(model: &str) -> Result<PathBuf, HubError> {
    match parse(model)? {
        ModelName::Path(path) => Ok(path),
        ModelName::Hub(id) => Err(HubError::Disabled { id }),
    }
}

/// Checks that a model name is an existing path or a well-formed hub name that this build can resolve, without
/// network access.
///
/// # Errors
/// [`HubError::NoSuchModel`] or [`HubError::NotAnId`]; `HubError::Disabled` without the feature `hub`.
pub fn check(model: &str) -> Result<(), HubError> {
    match parse(model)? {
        #[cfg(not(feature = "hub"))]
        ModelName::Hub(id) => Err(HubError::Disabled { id }),
        _ => Ok(()),
    }
}

/// A parsed model name.
enum ModelName {
    /// An existing file or folder.
    Path(PathBuf),
    /// A repository of the hub.
    Hub(ModelId),
}

fn parse(model: &str) -> Result<ModelName, HubError> {
    if let Some(rest) = model.strip_prefix("hf://") {
        let id = ModelId::parse(rest);
        return id.map(ModelName::Hub).ok_or_else(|| HubError::NotAnId { text: model.to_owned() });
    }
    let path = Path::new(model);
    if path.exists() {
        return Ok(ModelName::Path(path.to_owned()));
    }
    let hint = did_you_mean(path);
    // A mistyped path is never sent to the hub.
    let is_path = path.parent().is_some_and(|parent| parent != Path::new("") && parent.exists());
    match ModelId::parse(model) {
        Some(id) if hint.is_empty() && !is_path => Ok(ModelName::Hub(id)),
        id => {
            let hint = match id {
                Some(id) => format!("{hint}; the hub's model is hf://{id}"),
                None => hint,
            };
            Err(HubError::NoSuchModel { text: model.to_owned(), hint })
        }
    }
}

#[cfg(feature = "hub")]
impl Hub {
    /// Resolves a path or hub name to a model folder, and downloads what is missing. Blocks.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn resolve(&self, model: &str) -> Result<PathBuf, HubError> {
        match parse(model)? {
            ModelName::Path(path) => Ok(path),
            ModelName::Hub(id) if self.offline => self.cached(&id),
            ModelName::Hub(id) => match self.fetch(&id) {
                Err(error) if error.is_unreachable() => self.cached_instead(&id, error),
                outcome => outcome,
            },
        }
    }

    /// Falls back to a complete cached snapshot if the hub is unreachable; else returns the original error.
    fn cached_instead(&self, id: &ModelId, error: HubError) -> Result<PathBuf, HubError> {
        let folder = self.cached(id).map_err(|_| error)?;
        tracing::warn!(model = %id, "the hub cannot be reached; the model in the cache is used");
        Ok(folder)
    }
}

#[cfg(all(test, not(feature = "hub")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_a_hub_name_is_refused_and_a_folder_is_not() {
        for name in ["owner/name", "hf://owner/name@v2"] {
            for error in [resolve(name).map(|_| ()), check(name)] {
                let error = error.unwrap_err().to_string();
                assert!(
                    error.starts_with("owner/name") && error.contains("cargo feature `hub`"),
                    "{error}"
                );
            }
        }
        assert_eq!(resolve("src").unwrap(), Path::new("src"));
        assert!(check("src").is_ok());
    }
}
