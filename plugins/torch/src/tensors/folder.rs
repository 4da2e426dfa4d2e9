//! Tensors of a checkpoint folder, by the headers of its safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use crate::error::{Result, TorchError};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLED: &str = "pytorch_model";

/// Longest header in bytes, as in the reference implementation (`MAX_HEADER_SIZE` of safetensors 0.7).
const LONGEST_HEADER: u64 = 100_000_000;

/// Tensor in a file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Name in the file.
    pub(crate) name: String,
    /// Dtype.
    pub(crate) dtype: Dtype,
    /// Shape.
    pub(crate) shape: Vec<i64>,
    /// Index of the file.
    pub(super) file: usize,
    /// Offset of its first byte in the file.
    pub(super) start: u64,
    /// Size in bytes.
    pub(crate) bytes: usize,
}

impl Stored {
    /// Returns the number of elements.
    pub(crate) fn count(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// Opened safetensors files of a folder, of which the headers have been read.
pub(crate) struct TensorFolder {
    /// Path of the single file, or of the index.
    pub(crate) path: PathBuf,
    pub(super) files: Vec<(PathBuf, File)>,
    /// All tensors, sorted by name.
    pub(crate) tensors: Vec<Stored>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl TensorFolder {
    /// Returns the number of files.
    pub(crate) fn count(&self) -> usize {
        self.files.len()
    }

    /// Opens the weights of a checkpoint folder: `model.safetensors`, or the shards of
    /// `model.safetensors.index.json`.
    ///
    /// # Errors
    /// No weights, or pickled ones; a shard that is missing or truncated; a tensor that is not in the shard that the
    /// index names.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let single = folder.join(SINGLE);
        if single.exists() {
            return Self::open_file(&single);
        }
        let index = folder.join(INDEX);
        match index.exists() {
            true => Self::open_index(folder, index),
            false => Err(no_weights(folder)),
        }
    }

    /// Opens one safetensors file.
    pub(crate) fn open_file(path: &Path) -> Result<Self> {
        let (file, tensors) = open(path, 0)?;
        Ok(Self { path: path.to_owned(), files: vec![(path.to_owned(), file)], tensors })
    }

    fn open_index(folder: &Path, path: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?;
        let index: Index = serde_json::from_str(&text)
            .map_err(|error| TorchError::checkpoint(&path, format!("is no index of weights: {error}")))?;
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        let (mut files, mut tensors) = (Vec::new(), Vec::new());
        for (number, name) in names.into_iter().enumerate() {
            let shard = folder.join(name);
            if Path::new(name).file_name().is_none_or(|plain| plain != name.as_str()) {
                return Err(TorchError::checkpoint(path, format!("names `{name}`, which is no file name")));
            }
            if !shard.exists() {
                let reason = format!("names {name}, which is missing; fetch it again");
                return Err(TorchError::checkpoint(path, reason));
            }
            let (file, mut found) = open(&shard, number)?;
            // The index may assign a tensor of that name to another shard.
            found.retain(|tensor| index.weight_map.get(&tensor.name).is_none_or(|place| place == name));
            tensors.append(&mut found);
            files.push((shard, file));
        }
        let found: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        if let Some((name, place)) =
            index.weight_map.iter().find(|(name, _)| !found.contains(name.as_str()))
        {
            return Err(TorchError::checkpoint(
                path,
                format!("finds {name} in {place}, which has no such tensor"),
            ));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { path, files, tensors })
    }
}

fn no_weights(folder: &Path) -> TorchError {
    let pickled = |name: String| name.starts_with(PICKLED) && name.ends_with(".bin");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let reason = match names.any(pickled) {
        true => format!(
            "has its weights in {PICKLED}*.bin only. Such files can run any code when they are read, so \
             this program does not read them. Convert them once: python examples/convert_checkpoint.py {}",
            folder.display()
        ),
        false => format!("holds no weights: neither {SINGLE} nor {INDEX}"),
    };
    TorchError::checkpoint(folder, reason)
}

/// Opens a file, reads its header, and checks that the file has the length that the header implies.
fn open(path: &Path, number: usize) -> Result<(File, Vec<Stored>)> {
    let mut file = File::open(path).map_err(TorchError::io("read", path))?;
    let size = file.metadata().map_err(TorchError::io("read", path))?.len();
    let damaged = |what: String| TorchError::checkpoint(path, format!("is damaged or cut off: {what}"));
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| damaged(format!("it has {size} bytes")))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err(damaged(format!(
            "its header takes {length} bytes; the format allows {LONGEST_HEADER}"
        )));
    }
    // Checked before allocation: a damaged length must not allocate.
    if length > size.saturating_sub(8) {
        return Err(damaged(format!("its header takes {length} bytes, the file has {size}")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(TorchError::io("read", path))?;
    // Deserialising checks that offsets agree with shapes and dtypes.
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let data = 8 + length;
    let mut tensors: Vec<Stored> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| Stored {
            dtype: info.dtype,
            shape: info.shape.iter().map(|&size| size as i64).collect(),
            file: number,
            start: data + info.data_offsets.0 as u64,
            bytes: info.data_offsets.1 - info.data_offsets.0,
            name,
        })
        .collect();
    let end = tensors.iter().map(|tensor| tensor.start + tensor.bytes as u64).max().unwrap_or(data);
    if end != size {
        return Err(damaged(format!(
            "its header promises {end} bytes, the file has {size}; fetch it again"
        )));
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((file, tensors))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The error for a file with this header and `bytes` bytes of data.
    fn refused(header: &str, bytes: usize) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.write_all(&vec![0; bytes]).unwrap();
        TensorFolder::open_file(file.path()).err().unwrap().to_string()
    }

    fn tensor(name: &str, shape: &str, start: u64, end: u64) -> String {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let whole = |tensors: &[String]| format!("{{{}}}", tensors.join(","));
        for (what, header) in [
            ("overlap", whole(&[tensor("a", "[2]", 0, 8), tensor("b", "[2]", 4, 12)])),
            ("a hole", whole(&[tensor("a", "[1]", 0, 4), tensor("b", "[1]", 8, 12)])),
            ("backwards", whole(&[tensor("a", "[1]", 4, 0)])),
            ("another size", whole(&[tensor("a", "[4]", 0, 12)])),
            ("overflow", whole(&[tensor("a", "[4294967296, 4294967296, 4294967296]", 0, 12)])),
            ("beyond the file", whole(&[tensor("a", "[1152921504606846976]", 0, 1 << 62)])),
            ("negative", whole(&[tensor("a", "[-3]", 0, 12)])),
            ("twice", whole(&[tensor("a", "[1]", 0, 4), tensor("a", "[2]", 4, 12)])),
            ("no dtype", r#"{"a":{"shape":[3],"data_offsets":[0,12]}}"#.to_owned()),
            ("nesting", "[".repeat(100_000)),
            ("nesting of metadata", format!(r#"{{"__metadata__":{}"#, r#"{"a":"#.repeat(100_000))),
            ("no object", "[]".to_owned()),
            ("nothing", String::new()),
        ] {
            let error = refused(&header, 12);
            assert!(error.contains("is damaged or cut off"), "{what}: {error}");
        }
    }

    #[test]
    fn a_header_is_no_longer_than_the_format_allows() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LONGEST_HEADER + 100).unwrap();
        let length = (LONGEST_HEADER + 1).to_le_bytes();
        std::os::unix::fs::FileExt::write_all_at(file.as_file(), &length, 0).unwrap();
        let error = TensorFolder::open_file(file.path()).err().unwrap().to_string();
        assert!(error.contains("100000001") && error.contains("the format allows"), "{error}");
    }

    #[test]
    fn shards_are_plain_file_names() {
        for name in ["../x.safetensors", "/etc/passwd", "..", ".", "", "a/b.safetensors", "x.safetensors/"]
        {
            let folder = tempfile::tempdir().unwrap();
            let index = serde_json::json!({ "weight_map": { "a": name } });
            std::fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
            let error = TensorFolder::open(folder.path()).err().unwrap().to_string();
            assert!(error.contains("which is no file name"), "{name:?}: {error}");
        }
    }
}
