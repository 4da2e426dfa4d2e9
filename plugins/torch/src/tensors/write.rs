//! Writing of safetensors files, one tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::{dtype_of, for_each_piece};
use crate::error::{Result, TorchError};
use crate::json_file;
use crate::manifest::{FileRecord, Manifest};

/// Tensor to be written.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Name in the file.
    pub(crate) name: String,
    /// Dtype.
    pub(crate) kind: Kind,
    /// Shape.
    pub(crate) shape: Vec<i64>,
}

impl Planned {
    fn bytes(&self) -> u64 {
        let count: i64 = self.shape.iter().product();
        count as u64 * self.kind.elt_size_in_bytes() as u64
    }
}

/// Writes weights into a folder in transformers' layout: `model.safetensors`, or shards and an index if that would
/// exceed `limit` bytes. `tensor` returns each planned tensor in turn, so that only one has to be in memory. Records
/// every weight file in `manifest`.
pub(crate) fn write_sharded(
    folder: &Path,
    planned: &[Planned],
    limit: u64,
    manifest: &mut Manifest,
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<()> {
    let shards = shards(planned, limit);
    if let [only] = shards.as_slice() {
        let name = "model.safetensors";
        manifest.record(name, write_file(&folder.join(name), only, tensor)?);
        return Ok(());
    }
    let mut places = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        manifest.record(&name, write_file(&folder.join(&name), shard, tensor)?);
        places.extend(shard.iter().map(|planned| (planned.name.clone(), json!(name))));
    }
    places.sort_keys();
    let total: u64 = planned.iter().map(Planned::bytes).sum();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": Value::Object(places) });
    json_file::write(&folder.join("model.safetensors.index.json"), &index)
}

/// Assigns tensors to shards in the given order. A tensor above the limit has a shard of its own.
fn shards(planned: &[Planned], limit: u64) -> Vec<Vec<&Planned>> {
    let mut shards: Vec<Vec<&Planned>> = vec![Vec::new()];
    let mut size = 0;
    for tensor in planned {
        let starts_new = size > 0 && size + tensor.bytes() > limit;
        if starts_new {
            shards.push(Vec::new());
            size = 0;
        }
        size += tensor.bytes();
        if let Some(last) = shards.last_mut() {
            last.push(tensor);
        }
    }
    shards
}

/// Writes tensors as one safetensors file.
pub(crate) fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<FileRecord> {
    let planned = |(name, tensor): (&String, &Tensor)| Planned {
        name: name.clone(),
        kind: tensor.kind(),
        shape: tensor.size(),
    };
    let planned: Vec<Planned> = tensors.iter().map(planned).collect();
    let planned: Vec<&Planned> = planned.iter().collect();
    write_file(path, &planned, &mut |name| match tensors.get(name) {
        Some(tensor) => Ok(tensor.shallow_clone()),
        None => Err(TorchError::Engine(format!("tensor {name} is not there"))),
    })
}

fn write_file(
    path: &Path,
    planned: &[&Planned],
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<FileRecord> {
    let mut planned = planned.to_vec();
    // Wide dtypes first, so that each tensor is aligned to its dtype, as in the format's own writer.
    planned.sort_by(|a, b| {
        let width = |planned: &Planned| planned.kind.elt_size_in_bytes();
        width(b).cmp(&width(a)).then_with(|| a.name.cmp(&b.name))
    });
    let file = File::create(path).map_err(TorchError::io("create", path))?;
    let mut out = Digested { out: BufWriter::new(file), path, hasher: blake3::Hasher::new(), bytes: 0 };
    out.write(&header(&planned)?)?;
    for planned in planned {
        let tensor = tensor(&planned.name)?;
        if tensor.kind() != planned.kind || tensor.size() != planned.shape {
            return Err(TorchError::Engine(format!("{} changed while it was written", planned.name)));
        }
        for_each_piece(&tensor, |bytes| out.write(bytes))?;
    }
    out.finish()
}

/// Returns the header: length, and JSON padded with spaces to a multiple of 8 bytes.
fn header(planned: &[&Planned]) -> Result<Vec<u8>> {
    let mut entries = Map::new();
    // Required by transformers.
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut start = 0;
    for planned in planned {
        let end = start + planned.bytes();
        let dtype = format!("{:?}", dtype_of(planned.kind, &planned.name)?);
        let entry = json!({ "dtype": dtype, "shape": planned.shape, "data_offsets": [start, end] });
        entries.insert(planned.name.clone(), entry);
        start = end;
    }
    let mut json = Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

/// File writer that computes the digest.
struct Digested<'a> {
    out: BufWriter<File>,
    path: &'a Path,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Digested<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(TorchError::io("write", self.path))
    }

    fn finish(mut self) -> Result<FileRecord> {
        self.out.flush().map_err(TorchError::io("write", self.path))?;
        Ok(FileRecord { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(sizes: &[i64]) -> Vec<Planned> {
        let one = |(index, &size): (usize, &i64)| Planned {
            name: format!("t{index}"),
            kind: Kind::Float,
            shape: vec![size],
        };
        sizes.iter().enumerate().map(one).collect()
    }

    #[test]
    fn a_shard_is_filled_up_to_the_limit_and_a_larger_tensor_has_its_own() {
        let all = planned(&[2, 2, 5, 1]);
        let sizes: Vec<usize> = shards(&all, 16).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1, 1]);
        assert_eq!(shards(&all, 40).len(), 1);
        assert_eq!(shards(&[], 40).len(), 1, "a model without tensors is one empty file");
    }

    #[test]
    fn what_is_written_is_what_the_formats_own_reader_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let wide = Tensor::from_slice(&[1.5_f64, -2.0]);
        let many = Tensor::arange(3_000_000, (Kind::Float, tch::Device::Cpu)).view([1000, 3000]);
        let half = Tensor::from_slice(&[0.5_f32, 3.0, -1.0]).to_kind(Kind::BFloat16);
        let empty = Tensor::zeros([0, 4], (Kind::Float, tch::Device::Cpu));
        let tensors = BTreeMap::from([
            ("a.half".to_owned(), half),
            ("b.many".to_owned(), many),
            ("c.wide".to_owned(), wide),
            ("d.empty".to_owned(), empty),
        ]);
        let record = write_tensors(&path, &tensors).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(record.bytes, bytes.len() as u64);
        assert_eq!(record.blake3, blake3::hash(&bytes).to_hex().as_str());
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.len(), 4);
        let value = |index: usize| {
            let data = read.tensor("b.many").unwrap().data();
            f32::from_le_bytes(data[4 * index..4 * index + 4].try_into().unwrap())
        };
        assert_eq!((value(0), value(1), value(2_999_999)), (0.0, 1.0, 2_999_999.0));
        assert_eq!(read.tensor("d.empty").unwrap().shape(), [0, 4]);
        let back = super::super::read_tensors(&path).unwrap();
        for (name, tensor) in &tensors {
            assert_eq!(&back[name], tensor, "{name}");
            assert_eq!(back[name].kind(), tensor.kind(), "{name}");
        }
    }
}
