//! Errors of resolving and downloading models.

use std::path::PathBuf;

use super::model_id::ModelId;
#[cfg(feature = "hub")]
use hf_hub::api::sync::ApiError;

/// Failure to resolve a model name to a folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text is neither a path that exists nor a hub id.
    #[error("{text} is neither a folder nor a model of the hub (`owner/name`){hint}")]
    NoSuchModel {
        /// The given text.
        text: String,
        /// A suggestion (`; did you mean ...?`), or empty.
        hint: String,
    },
    /// The text behind `hf://` is not a valid repository name.
    #[error("{text} does not name a model of the hub; write hf://owner/name or hf://owner/name@revision")]
    NotAnId {
        /// The given text.
        text: String,
    },
    /// The build lacks the cargo feature `hub`.
    #[cfg(not(feature = "hub"))]
    #[error(
        "{id} is no folder, and this build cannot download it from the Hugging Face hub; build with the cargo \
         feature `hub` of isr-torch, or give the path of a copy"
    )]
    Disabled {
        /// The model.
        id: ModelId,
    },
    /// No cache folder can be determined.
    #[error("there is no home folder to keep models of the hub in; set HF_HOME to a folder")]
    NoCache,
    /// Offline mode, and the cached snapshot is missing or incomplete.
    #[error(
        "HF_HUB_OFFLINE is set, and {missing} of {id} is not in {cache}; run once with HF_HUB_OFFLINE=0 or \
         `hf download {repository}` where there is a network, or give the path of a copy"
    )]
    Offline {
        /// The model.
        id: ModelId,
        /// Its repository.
        repository: String,
        /// The first file that is missing.
        missing: String,
        /// The cache.
        cache: PathBuf,
    },
    /// Access denied (HTTP 401 or 403): a private or gated model.
    #[error(
        "the hub does not let {} read {id}: it is private or gated; accept its terms at {page}, and set \
         HF_TOKEN to a token that may read it", if *.with_token { "this token" } else { "anyone without a token" }
    )]
    Refused {
        /// The model.
        id: ModelId,
        /// Its page.
        page: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// No such model or revision (HTTP 404), or a private one.
    #[error(
        "the hub has no model {id}, or it is private; check the name and revision at {page}, or set \
         HF_TOKEN to a token that may read it"
    )]
    NotFound {
        /// The model.
        id: ModelId,
        /// Its page.
        page: String,
    },
    /// The repository has no safetensors weights.
    #[error(
        "{id} has no safetensors weights, only {found}; convert them (transformers: `from_pretrained`, then \
         `save_pretrained(..., safe_serialization=True)`), and give the path of the copy"
    )]
    NoWeights {
        /// The model.
        id: ModelId,
        /// The weights that it has, or `no weights`.
        found: String,
    },
    /// The repository lacks a shard that its index names.
    #[error("{id} is not a complete model: {missing} is missing on the hub")]
    Incomplete {
        /// The model.
        id: ModelId,
        /// The first file that is missing.
        missing: String,
    },
    /// A file name in the repository escapes the cache folder (path traversal).
    #[error("{id} has a file with the name {name:?}, which leads out of its folder; do not use it")]
    Hostile {
        /// The model.
        id: ModelId,
        /// The file name.
        name: String,
    },
    /// A request to the hub failed, after retries.
    #[cfg(feature = "hub")]
    #[error(
        "cannot get {file} of {id} from {endpoint}: {source}; the same command goes on with what was downloaded"
    )]
    Download {
        /// The model.
        id: ModelId,
        /// The file, or `the list of files`.
        file: String,
        /// Base URL of the hub.
        endpoint: String,
        /// The client's error.
        source: Box<ApiError>,
    },
    /// The cache could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

#[cfg(feature = "hub")]
impl HubError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Returns whether the hub was unreachable (no answer, or HTTP 5xx), so that the cache may be used.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Download { source, .. } if status(source).is_none_or(|code| code >= 500))
    }
}

/// Returns the HTTP status of an error, if the hub answered.
#[cfg(feature = "hub")]
pub(crate) fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    }
}
