//! JSON with blobs: built on one side, read on the other.

use std::sync::Arc;

use abi_stable::std_types::{RSlice, RVec};
use isr_api::{Frames, VisualFeatures};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::RemoteError;
use crate::interface::{RawMessage, RawReply};

/// Bytes beside JSON, not copied before they cross.
#[derive(Clone, Debug)]
pub enum Blob {
    /// `frames.rgb`.
    Frames(Arc<Frames>),
    /// `features.bytes`.
    Features(Arc<VisualFeatures>),
    /// Any other.
    Bytes(Vec<u8>),
}

impl Blob {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Frames(frames) => &frames.rgb,
            Self::Features(features) => &features.bytes,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// A message of either side: JSON and the blobs that it refers to by index.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The JSON text.
    pub json: Vec<u8>,
    /// What it refers to.
    pub blobs: Vec<Blob>,
}

impl Message {
    /// Writes a form and its blobs.
    ///
    /// # Errors
    /// Where the form has no JSON, as a map with keys that are no texts.
    pub fn new(form: &impl Serialize, blobs: Vec<Blob>) -> Result<Self, RemoteError> {
        let json = serde_json::to_vec(form)
            .map_err(|error| RemoteError::failed(format!("a message cannot be written: {error}")))?;
        Ok(Self { json, blobs })
    }

    /// Reads the form.
    ///
    /// # Errors
    /// Where the JSON is not that of the form.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        serde_json::from_slice(&self.json)
            .map_err(|error| RemoteError::failed(format!("a message cannot be read: {error}")))
    }

    /// A blob's bytes.
    ///
    /// # Errors
    /// Where there are not so many.
    pub fn blob(&self, index: usize) -> Result<&[u8], RemoteError> {
        let found = self.blobs.get(index).map(Blob::bytes);
        found.ok_or_else(|| RemoteError::failed(format!("a message lacks its blob {index}")))
    }

    /// Lends it to the boundary.
    pub(crate) fn lend<T>(&self, to: impl FnOnce(RawMessage<'_>) -> T) -> T {
        let blobs: Vec<RSlice<'_, u8>> = self.blobs.iter().map(|it| RSlice::from(it.bytes())).collect();
        to(RawMessage { json: RSlice::from(&self.json[..]), blobs: RSlice::from(&blobs[..]) })
    }

    pub(crate) fn into_raw(self) -> RawReply {
        let blobs: RVec<RVec<u8>> = self.blobs.into_iter().map(|blob| blob.into_bytes().into()).collect();
        RawReply { json: self.json.into(), blobs }
    }
}

impl Blob {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            other => other.bytes().to_vec(),
        }
    }
}

impl From<RawReply> for Message {
    fn from(raw: RawReply) -> Self {
        let blobs = raw.blobs.into_iter().map(|blob| Blob::Bytes(blob.into_vec())).collect();
        Self { json: raw.json.into_vec(), blobs }
    }
}

impl From<RawMessage<'_>> for Message {
    fn from(raw: RawMessage<'_>) -> Self {
        let blobs = raw.blobs.iter().map(|blob| Blob::Bytes(blob.as_slice().to_vec())).collect();
        Self { json: raw.json.as_slice().to_vec(), blobs }
    }
}

/// Little-endian bytes of numbers.
pub(crate) fn to_bytes(numbers: &[f64]) -> Blob {
    Blob::Bytes(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// Numbers of little-endian bytes; a rest of fewer than eight is dropped.
pub(crate) fn to_numbers(bytes: &[u8]) -> Vec<f64> {
    let (whole, _) = bytes.as_chunks::<8>();
    whole.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect()
}
