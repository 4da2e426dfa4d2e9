//! JSON with binary blobs: serialised on one side of the boundary, read on the other.

use std::sync::Arc;

use abi_stable::std_types::{RSlice, RVec};
use isr_api::{Frames, VisualFeatures};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::RemoteError;
use crate::interface::{RawMessage, RawReply};

/// Binary data beside the JSON; frames and features are shared, not copied, until they cross.
#[derive(Clone, Debug)]
pub enum Blob {
    /// [`Frames::rgb`].
    Frames(Arc<Frames>),
    /// [`VisualFeatures::bytes`].
    Features(Arc<VisualFeatures>),
    /// Any other bytes.
    Bytes(Vec<u8>),
}

impl Blob {
    /// The blob's content.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Frames(frames) => &frames.rgb,
            Self::Features(features) => &features.bytes,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// JSON and the blobs that it refers to by index.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// UTF-8 JSON.
    pub json: Vec<u8>,
    /// The blobs, in the order of their indices.
    pub blobs: Vec<Blob>,
}

impl Message {
    /// Serialises a message's JSON part.
    ///
    /// # Errors
    /// A value that JSON cannot hold, such as a map whose keys are not strings.
    pub fn new(content: &impl Serialize, blobs: Vec<Blob>) -> Result<Self, RemoteError> {
        let json = serde_json::to_vec(content)
            .map_err(|error| RemoteError::failed(format!("a message cannot be written: {error}")))?;
        Ok(Self { json, blobs })
    }

    /// Deserialises the JSON part.
    ///
    /// # Errors
    /// JSON of another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        serde_json::from_slice(&self.json)
            .map_err(|error| RemoteError::failed(format!("a message cannot be read: {error}")))
    }

    /// The bytes of blob `index`.
    ///
    /// # Errors
    /// An index past the last blob.
    pub fn blob(&self, index: usize) -> Result<&[u8], RemoteError> {
        let found = self.blobs.get(index).map(Blob::bytes);
        found.ok_or_else(|| RemoteError::failed(format!("a message lacks its blob {index}")))
    }

    /// Calls `to` with a borrowed view of the message for the boundary.
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
