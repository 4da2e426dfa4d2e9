//! Writing of safetensors files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::digest::{DigestedFile, Stream, run};
use super::dtype_of;
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
    pub(super) fn bytes(&self) -> u64 {
        let count: i64 = self.shape.iter().product();
        count as u64 * self.kind.elt_size_in_bytes() as u64
    }
}

/// Writes weights into a folder in transformers' layout: `model.safetensors`, or shards and an index if that would
/// exceed `limit` bytes. `tensor` returns a planned tensor, and is asked for each once, so that only one for each file
/// that is being written has to be in memory. Records every weight file in `manifest`. Returns the digest of each
/// tensor's bytes, if `each`.
pub(crate) fn write_sharded(
    folder: &Path,
    planned: &[Planned],
    limit: u64,
    manifest: &mut Manifest,
    each: bool,
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<BTreeMap<String, blake3::Hash>> {
    let shards = shards(planned, limit);
    let count = shards.len();
    let name = |index: usize| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    let mut streams = Vec::new();
    for (index, shard) in shards.iter().enumerate() {
        streams.push(stream_to(folder.join(name(index)), shard, each)?);
    }
    let mut digests = BTreeMap::new();
    for (index, written) in run(streams, tensor)?.into_iter().enumerate() {
        if let Some(record) = written.file {
            manifest.record(&name(index), record);
        }
        digests.extend(written.tensors);
    }
    if count > 1 {
        let place = |(index, shard): (usize, &Vec<&Planned>)| {
            shard.iter().map(|planned| (planned.name.clone(), json!(name(index)))).collect::<Vec<_>>()
        };
        let mut places: Map<String, Value> = shards.iter().enumerate().flat_map(place).collect();
        places.sort_keys();
        let total: u64 = planned.iter().map(Planned::bytes).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": Value::Object(places) });
        json_file::write(&folder.join("model.safetensors.index.json"), &index)?;
    }
    Ok(digests)
}

/// Returns the digest of each tensor's bytes; `tensor` is as for [`write_sharded`].
pub(crate) fn hash_tensors(
    planned: &[Planned],
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<BTreeMap<String, blake3::Hash>> {
    let stream = Stream::new(planned.iter().collect(), None, true);
    Ok(run(vec![stream], tensor)?.into_iter().flat_map(|written| written.tensors).collect())
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
    let stream = stream_to(path.to_owned(), &planned, false)?;
    let written = run(vec![stream], &mut |name| match tensors.get(name) {
        Some(tensor) => Ok(tensor.shallow_clone()),
        None => Err(TorchError::Engine(format!("tensor {name} is not there"))),
    })?;
    let record = written.into_iter().find_map(|written| written.file);
    record.ok_or_else(|| TorchError::Engine(format!("{} was not written", path.display())))
}

/// Creates a file, writes its header, and returns the stream of its tensors.
fn stream_to<'p>(path: PathBuf, planned: &[&'p Planned], each: bool) -> Result<Stream<'p>> {
    let mut planned = planned.to_vec();
    // Wide dtypes first, so that each tensor is aligned to its dtype, as in the format's own writer.
    planned.sort_by(|a, b| {
        let width = |planned: &Planned| planned.kind.elt_size_in_bytes();
        width(b).cmp(&width(a)).then_with(|| a.name.cmp(&b.name))
    });
    let file = DigestedFile::create(path, &header(&planned)?)?;
    Ok(Stream::new(planned, Some(file), each))
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

    /// Tensors that end within blocks, at their ends and beyond, in files that are under way together and behind each
    /// other; sizes are odd, so that no subtree of a tensor is one of its file.
    #[test]
    fn digests_of_files_and_tensors_are_those_of_one_pass_over_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = [3, 4 << 20, 5, 9_000_001, 0, 7, 4_190_000, 77, 1 << 20, 300_001];
        let planned = planned(&sizes);
        let values = |name: &str| {
            let index: i64 = name[1..].parse().unwrap();
            let all = Tensor::arange(sizes[index as usize], (Kind::Float, tch::Device::Cpu));
            all * (index as f64 + 0.5)
        };
        let mut manifest = Manifest::new();
        let mut asked = Vec::new();
        let digests = write_sharded(folder.path(), &planned, 2 << 20, &mut manifest, true, &mut |name| {
            asked.push(name.to_owned());
            Ok(values(name))
        });
        let digests = digests.unwrap();
        asked.sort();
        assert!(
            asked.iter().eq(planned.iter().map(|planned| &planned.name)),
            "each is asked for once: {asked:?}"
        );
        for Planned { name, .. } in &planned {
            let bytes = super::super::bytes_of(&values(name)).unwrap();
            assert_eq!(digests[name], blake3::hash(&bytes), "{name}");
        }
        assert_eq!(hash_tensors(&planned, &mut |name| Ok(values(name))).unwrap(), digests);
        let written = serde_json::to_value(&manifest).unwrap()["files"].clone();
        let written = written.as_object().unwrap();
        assert!(written.len() > 4, "more files than are under way together");
        for (name, record) in written {
            let bytes = std::fs::read(folder.path().join(name)).unwrap();
            assert_eq!(record["bytes"], bytes.len() as u64, "{name}");
            assert_eq!(record["blake3"], blake3::hash(&bytes).to_hex().as_str(), "{name}");
        }
        let files = super::super::TensorFolder::open(folder.path()).unwrap();
        assert_eq!(files.count(), written.len());
        for stored in &files.tensors {
            let back = files.read(stored, Kind::Float, tch::Device::Cpu).unwrap();
            assert_eq!(back, values(&stored.name), "{}", stored.name);
        }
    }

    #[test]
    fn a_tensor_that_fails_or_changes_and_a_file_that_cannot_be_written_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let planned = planned(&[2, 3]);
        let write = |tensor: &mut dyn FnMut(&str) -> Result<Tensor>| {
            let mut manifest = Manifest::new();
            write_sharded(folder.path(), &planned, 100, &mut manifest, true, tensor)
                .unwrap_err()
                .to_string()
        };
        let zeros = |size: i64| Tensor::zeros([size], (Kind::Float, tch::Device::Cpu));
        assert!(write(&mut |_| Ok(zeros(2))).contains("t1 changed while it was written"));
        assert!(write(&mut |name| Err(TorchError::Engine(format!("no {name}")))).contains("no t0"));
        let tensors = BTreeMap::from([("a".to_owned(), zeros(1 << 16))]);
        let full = write_tensors(Path::new("/dev/full"), &tensors).unwrap_err().to_string();
        assert!(full.contains("cannot write /dev/full"), "{full}");
    }
}
