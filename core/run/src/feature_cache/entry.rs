//! A cache entry: a safetensors file with one tensor.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use isr_api::{FeatureType, Fingerprint, VisualFeatures};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Metadata of an entry: digests of everything that the features were computed from.
pub(super) type Labels = HashMap<String, String>;

/// Name of the tensor in the file.
const TENSOR: &str = "features";

/// Label of the digest of the tensor's bytes.
const DATA: &str = "data";

/// Reason of a cache miss.
pub(super) enum Miss {
    /// There is no file.
    Absent,
    /// The file is damaged, or was computed from other frames.
    Unusable(String),
}

/// Reads an entry and checks its labels and digest.
pub(super) fn read(path: &Path, labels: &Labels, encoder: &Fingerprint) -> Result<VisualFeatures, Miss> {
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Miss::Absent,
        _ => Miss::Unusable(error.to_string()),
    })?;
    parse(&bytes, labels, encoder).map_err(Miss::Unusable)
}

fn parse(bytes: &[u8], labels: &Labels, encoder: &Fingerprint) -> Result<VisualFeatures, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let found = header.metadata().as_ref().ok_or("it has no labels")?;
    if let Some((name, _)) = labels.iter().find(|(name, text)| found.get(*name) != Some(text)) {
        return Err(format!("its `{name}` is another one"));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensor = tensors.tensor(TENSOR).map_err(|error| error.to_string())?;
    let dtype = match tensor.dtype() {
        Dtype::F32 => FeatureType::F32,
        Dtype::BF16 => FeatureType::Bf16,
        other => return Err(format!("its type is {other:?}")),
    };
    let shape = tensor.shape().try_into().map_err(|_| format!("its shape is {:?}", tensor.shape()))?;
    let bytes = tensor.data().to_vec();
    if found.get(DATA).map(String::as_str) != Some(Fingerprint::of(&bytes).as_str()) {
        return Err("its data do not match their digest".to_owned());
    }
    Ok(VisualFeatures { dtype, shape, bytes, encoder: encoder.clone() })
}

/// Writes an entry atomically; returns its size in bytes. It is not flushed to disk: an entry that a power failure
/// damages is recomputed.
pub(super) fn write(path: &Path, labels: &Labels, features: &VisualFeatures) -> io::Result<u64> {
    let dtype = match features.dtype {
        FeatureType::F32 => Dtype::F32,
        FeatureType::Bf16 => Dtype::BF16,
    };
    let view =
        TensorView::new(dtype, features.shape.to_vec(), &features.bytes).map_err(io::Error::other)?;
    let mut labels = labels.clone();
    labels.insert(DATA.to_owned(), Fingerprint::of(&features.bytes).to_string());
    let bytes = safetensors::serialize([(TENSOR, view)], Some(labels)).map_err(io::Error::other)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let aside = path.with_extension(aside_extension());
    // The remains of a process that had the same number. A link of this name is not followed.
    let _ = fs::remove_file(&aside);
    let written = File::create_new(&aside).and_then(|mut file| file.write_all(&bytes));
    let written = written.and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // A partial file would occupy a full disk.
        let _ = fs::remove_file(&aside);
    }
    written.map(|()| bytes.len() as u64)
}

/// A file extension that is unique among all writes of all processes.
fn aside_extension() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}.{ASIDE}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Extension of files that are being written.
pub(super) const ASIDE: &str = "tmp";
