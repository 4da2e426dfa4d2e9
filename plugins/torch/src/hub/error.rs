//! Errors of resolving and downloading models.

use std::path::PathBuf;

use super::model_id::ModelId;

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
        "the hub has no model {id}, or it is private, and there is no folder of this name; check the name and revision at {page}, or set \
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
        "cannot get {file} of {id} from {endpoint}: {source}{hint}; the same command goes on with what was downloaded"
    )]
    Download {
        /// The model.
        id: ModelId,
        /// The file, or `the list of files`.
        file: String,
        /// Base URL of the hub.
        endpoint: Box<str>,
        /// Where nothing was got: that there is no folder of this name either.
        hint: &'static str,
        /// The last attempt's error.
        source: Box<FetchError>,
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
        matches!(self, Self::Download { source, .. } if source.status().is_none_or(|code| code >= 500))
    }
}

/// Failure of a request to the hub.
#[cfg(feature = "hub")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or one that broke before the response.
    #[error("{0}")]
    Request(#[from] ureq::Error),
    /// The connection broke, or nothing came for half a minute.
    #[error("the download was cut: {0}")]
    Body(std::io::Error),
    /// The body ended early.
    #[error("the download was cut after {got} of {size} bytes")]
    Cut {
        /// Bytes that are there.
        got: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// A status of failure.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// A URL that is none, or neither http nor https.
    #[error("{0:?} is no http or https URL")]
    BadUrl(String),
    /// A redirect without a target.
    #[error("the server redirects, but does not say where to")]
    NoLocation,
    /// A circle of redirects.
    #[error("the server redirects again and again")]
    TooManyRedirects,
    /// A response without an entity tag.
    #[error("the server did not send an ETag")]
    NoTag,
    /// Bytes of another place than asked for.
    #[error("the server sent another range of the file than it was asked for")]
    BadRange,
    /// More bytes than the file has.
    #[error("the server sent more bytes than the file has")]
    TooLong,
    /// Bytes of the right length that are not the file.
    #[error("the bytes have the digest {found}, but the hub names {expected}")]
    WrongDigest {
        /// Digest by the hub.
        expected: String,
        /// Digest of the bytes.
        found: String,
    },
    /// The list of files is not the hub's.
    #[error("the list of files cannot be read: {0}")]
    Listing(serde_json::Error),
}

#[cfg(feature = "hub")]
impl FetchError {
    /// Returns the HTTP status, if the hub answered with a failure.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status(code) => Some(*code),
            _ => None,
        }
    }

    /// Returns whether another attempt may succeed.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Status(code) => *code >= 500 || matches!(code, 408 | 416 | 429),
            Self::BadUrl(_)
            | Self::NoLocation
            | Self::TooManyRedirects
            | Self::NoTag
            | Self::Listing(_) => false,
            _ => true,
        }
    }

    /// Returns whether the bytes got so far are right.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self, Self::Body(_) | Self::Cut { .. })
    }
}
