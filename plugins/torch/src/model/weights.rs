//! Named tensors: read from safetensors, checked against what the config promises, written back.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use isr_core::{Fingerprint, FingerprintBuilder};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};

/// Tensors by the name that transformers writes (`language_model.model.layers.0...`).
///
/// Modules hold shallow clones: all of them see an update in place.
pub(crate) struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Reads `model.safetensors` of a folder to `device`; floating-point tensors become `kind`.
    pub(crate) fn read(folder: &Path, kind: Kind, device: Device) -> Result<Self> {
        let path = folder.join("model.safetensors");
        let bytes = std::fs::read(&path).map_err(TorchError::io("read", &path))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in views(&path, &bytes)? {
            let tensor = to_tensor(&path, &name, &view)?.f_to_device(device)?.f_to_kind(kind)?;
            tensors.insert(canonical_name(&name), tensor);
        }
        Ok(Self { tensors })
    }

    /// The tensor of that name.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        let found = self.tensors.get(name).map(Tensor::shallow_clone);
        found.ok_or_else(|| TorchError::Engine(format!("tensor {name} is not loaded")))
    }

    /// Those whose name passes.
    pub(crate) fn only(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.tensors.retain(|name, _| keep(name));
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.iter()
    }

    /// Compares names and shapes with `expected`; a tied or unused extra may be allowed by `ignored`.
    pub(crate) fn check(
        &mut self,
        path: &Path,
        expected: &HashMap<String, Vec<i64>>,
        ignored: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.tensors.retain(|name, _| expected.contains_key(name) || !ignored(name));
        let mut problems: Vec<String> = Vec::new();
        for (name, shape) in expected {
            match self.tensors.get(name) {
                None => problems.push(format!("missing {name} {shape:?}")),
                Some(tensor) if tensor.size() != *shape => {
                    problems.push(format!("{name} has shape {:?}, expected {shape:?}", tensor.size()));
                }
                Some(_) => {}
            }
        }
        let extra = self.tensors.keys().filter(|name| !expected.contains_key(*name));
        problems.extend(extra.map(|name| format!("unexpected {name}")));
        problems.sort();
        if problems.is_empty() {
            return Ok(());
        }
        let count = problems.len();
        problems.truncate(12);
        let more = if count > problems.len() {
            format!("; and {} more", count - problems.len())
        } else {
            String::new()
        };
        let reason = format!("{count} tensors do not fit config.json: {}{more}", problems.join("; "));
        Err(TorchError::checkpoint(path.join("model.safetensors"), reason))
    }

    /// Copies the values of `source` into these tensors, which keep their place and type.
    pub(crate) fn copy_from(&mut self, source: &Self) -> Result<()> {
        tch::no_grad(|| {
            for (name, tensor) in &mut self.tensors {
                tensor.f_copy_(&source.get(name)?)?;
            }
            Ok(())
        })
    }

    /// Writes `model.safetensors`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        write_tensors(&folder.join("model.safetensors"), &self.tensors)
    }

    /// A digest of all names, shapes and values.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint> {
        let mut builder = FingerprintBuilder::default();
        for (name, tensor) in &self.tensors {
            builder.update(name.as_bytes());
            builder.update(&bytes_of(tensor)?);
        }
        Ok(builder.finish())
    }
}

/// Writes tensors as safetensors, in the order of their names.
pub(crate) fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut data = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        data.push((name, dtype(tensor.kind(), name)?, shape, bytes_of(tensor)?));
    }
    let mut views = Vec::with_capacity(data.len());
    for (name, dtype, shape, bytes) in &data {
        let view = TensorView::new(*dtype, shape.clone(), bytes)
            .map_err(|error| TorchError::checkpoint(path, format!("{name}: {error}")))?;
        views.push((name.as_str(), view));
    }
    // transformers refuses files without this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|error| TorchError::checkpoint(path, error.to_string()))
}

/// Reads a safetensors file to the CPU, names and types as they are.
pub(crate) fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(TorchError::io("read", path))?;
    let views = views(path, &bytes)?;
    views.into_iter().map(|(name, view)| Ok((name.clone(), to_tensor(path, &name, &view)?))).collect()
}

fn views<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(String, TensorView<'a>)>> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| TorchError::checkpoint(path, format!("is damaged or cut off: {error}")))?;
    Ok(file.tensors())
}

fn to_tensor(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Tensor> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F64 => Kind::Double,
        Dtype::I64 => Kind::Int64,
        other => return Err(TorchError::checkpoint(path, format!("{name} has type {other:?}"))),
    };
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
}

fn dtype(kind: Kind, name: &str) -> Result<Dtype> {
    match kind {
        Kind::Float => Ok(Dtype::F32),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Half => Ok(Dtype::F16),
        Kind::Int64 => Ok(Dtype::I64),
        other => Err(TorchError::Engine(format!("{name} has type {other:?}, which is not written"))),
    }
}

/// A tensor's elements, little-endian.
pub(crate) fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let count = tensor.numel();
    let mut bytes = vec![0_u8; count * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}

/// Maps the names of older and newer transformers versions to one.
fn canonical_name(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(rest) = name.strip_prefix("model.language_model.") {
        name = format!("language_model.model.{rest}");
    } else if let Some(rest) = name.strip_prefix("model.") {
        name = rest.to_owned();
    } else if name.starts_with("lm_head.") {
        name = format!("language_model.{name}");
    }
    for tower in ["vision_tower", "video_tower", "image_tower"] {
        name = name.replace(&format!("{tower}.vision_model."), &format!("{tower}."));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_versions_meet() {
        let cases = [
            ("language_model.model.norm.weight", "language_model.model.norm.weight"),
            ("model.language_model.norm.weight", "language_model.model.norm.weight"),
            ("lm_head.weight", "language_model.lm_head.weight"),
            ("model.multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
            ("vision_tower.vision_model.post_layernorm.bias", "vision_tower.post_layernorm.bias"),
            ("model.video_tower.vision_model.x", "video_tower.x"),
        ];
        for (given, canonical) in cases {
            assert_eq!(canonical_name(given), canonical);
        }
    }
}
