//! Models by path or by name on the Hugging Face hub.
//!
//! [`resolve`] takes what a config may say for a model and returns a folder:
//!
//! | text | meaning |
//! |---|---|
//! | a path that exists | that folder |
//! | `owner/name`, `owner/name@revision` | a model of the hub, where no such path exists |
//! | `hf://owner/name`, `hf://owner/name@revision` | a model of the hub |
//!
//! A model is kept in the hub's own cache (`HF_HUB_CACHE`, else `HF_HOME/hub`, else
//! `~/.cache/huggingface/hub`), in the layout that Python's `huggingface_hub` shares. What is needed of a
//! repository is downloaded: configs, tokenizer, templates, and safetensors weights. A download that was
//! cut goes on where it ended, here or in the next process. A branch is looked up each time; where the hub
//! cannot be reached, what is in the cache serves, if it is complete.
//!
//! Environment: `HF_TOKEN` for private and gated models (else the file that `hf auth login` writes),
//! `HF_HUB_OFFLINE=1` to ask nobody, `HF_ENDPOINT` for another hub.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod download;
mod error;
mod model_id;
mod progress;
mod settings;
mod snapshot;

use std::path::{Path, PathBuf};

use isr_config::did_you_mean;

pub use error::HubError;
pub use model_id::ModelId;
pub use settings::Hub;

/// The folder of a model that a path or a hub id names, downloaded if need be. Blocks.
///
/// # Errors
/// See [`HubError`].
pub fn resolve(model: &str) -> Result<PathBuf, HubError> {
    Hub::from_env().resolve(model)
}

/// Refuses what is neither a path that exists nor a hub id; asks nobody. For checks before any work.
///
/// # Errors
/// [`HubError::NoSuchModel`].
pub fn check(model: &str) -> Result<(), HubError> {
    parse(model).map(|_| ())
}

/// What a model's name means.
enum Named {
    Path(PathBuf),
    Hub(ModelId),
}

fn parse(model: &str) -> Result<Named, HubError> {
    if let Some(rest) = model.strip_prefix("hf://") {
        let id = ModelId::parse(rest);
        return id.map(Named::Hub).ok_or_else(|| HubError::NotAnId { text: model.to_owned() });
    }
    let path = Path::new(model);
    if path.exists() {
        return Ok(Named::Path(path.to_owned()));
    }
    let hint = did_you_mean(path);
    // A slip in a path is not for the hub to know.
    let is_path = path.parent().is_some_and(|parent| parent != Path::new("") && parent.exists());
    match ModelId::parse(model) {
        Some(id) if hint.is_empty() && !is_path => Ok(Named::Hub(id)),
        id => {
            let hint = match id {
                Some(id) => format!("{hint}; the hub's model is hf://{id}"),
                None => hint,
            };
            Err(HubError::NoSuchModel { text: model.to_owned(), hint })
        }
    }
}

impl Hub {
    /// As [`resolve`], with these settings.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn resolve(&self, model: &str) -> Result<PathBuf, HubError> {
        match parse(model)? {
            Named::Path(path) => Ok(path),
            Named::Hub(id) if self.offline => self.cached(&id),
            Named::Hub(id) => match self.fetch(&id) {
                Err(error) if error.is_unreachable() => self.instead(&id, error),
                outcome => outcome,
            },
        }
    }

    /// The cached model in place of one that cannot be asked for.
    fn instead(&self, id: &ModelId, error: HubError) -> Result<PathBuf, HubError> {
        let folder = self.cached(id).map_err(|_| error)?;
        tracing::warn!(model = %id, "the hub cannot be reached; the model in the cache is used");
        Ok(folder)
    }
}
