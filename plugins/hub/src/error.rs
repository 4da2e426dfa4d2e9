//! What can go wrong on the way to a model.

use std::path::PathBuf;

use hf_hub::api::sync::ApiError;

use crate::model_id::ModelId;

/// Why there is no folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text is neither a path that exists nor a hub id.
    #[error("{text} is neither a folder nor a model of the hub (`owner/name`){hint}")]
    NoSuchModel {
        /// What was given.
        text: String,
        /// What may have been meant.
        hint: String,
    },
    /// What follows `hf://` is no id.
    #[error("{text} does not name a model of the hub; write hf://owner/name or hf://owner/name@revision")]
    NotAnId {
        /// What was given.
        text: String,
    },
    /// There is nowhere to keep models.
    #[error("there is no home folder to keep models of the hub in; set HF_HOME to a folder")]
    NoCache,
    /// Offline, and something is not in the cache.
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
    /// The hub wants to know who asks.
    #[error(
        "the hub does not let {} read {id}: it is private or gated; accept its terms at {page}, and set \
         HF_TOKEN to a token that may read it", if *.with_token { "this token" } else { "anyone without a token" }
    )]
    Refused {
        /// The model.
        id: ModelId,
        /// Its page.
        page: String,
        /// Whether there was a token.
        with_token: bool,
    },
    /// The hub has no such model or revision, or does not say.
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
    /// The repository has weights in a form that is not read.
    #[error(
        "{id} has no safetensors weights, only {found}; convert them (transformers: `from_pretrained`, then \
         `save_pretrained(..., safe_serialization=True)`), and give the path of the copy"
    )]
    NoWeights {
        /// The model.
        id: ModelId,
        /// What it has.
        found: String,
    },
    /// The repository lacks a file that it names.
    #[error("{id} is not a complete model: {missing} is missing on the hub")]
    Incomplete {
        /// The model.
        id: ModelId,
        /// The first file that is missing.
        missing: String,
    },
    /// A file's name would leave the cache.
    #[error("{id} has a file with the name {name:?}, which leads out of its folder; do not use it")]
    Hostile {
        /// The model.
        id: ModelId,
        /// The name.
        name: String,
    },
    /// The hub could not be asked.
    #[error(
        "cannot get {file} of {id} from {endpoint}: {source}; the same command goes on with what was downloaded"
    )]
    Download {
        /// The model.
        id: ModelId,
        /// The file, or `the list of files`.
        file: String,
        /// The hub.
        endpoint: String,
        /// What went wrong.
        source: Box<ApiError>,
    },
    /// The cache could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl HubError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether nobody answered, so that what is in the cache may serve.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Download { source, .. } if status(source).is_none_or(|code| code >= 500))
    }
}

/// The status that the hub answered with, where it did.
pub(crate) fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    }
}
