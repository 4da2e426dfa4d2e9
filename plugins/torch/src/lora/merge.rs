//! Merging an adapter into its base: `W + scale * B A`, with DoRA's magnitudes, and the weights of saved modules.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::dora::{Update, row_norms};
use super::pairs::{AdapterTensors, Pair, read_adapter};
use super::patterns::Scaling;
use super::peft;
use super::saved::SavedWeights;
use crate::checkpoint::copy_companions;
use crate::error::{Result, TorchError};
use crate::json_file;
use crate::manifest::{Manifest, verify};
use crate::model::families::read_config;
use crate::model::names::TensorNames;
use crate::model::output_layer::{self, EMBEDDING, HEAD};
use crate::tensors::{Planned, Stored, TensorFolder, write_sharded};

/// Merges an adapter into its base checkpoint and writes the result to `out`, an empty folder, with the base's names
/// and dtypes, in files of at most `shard_bytes` bytes. Holds one tensor for each file that is being written in memory. Returns the number of
/// merged weights.
///
/// # Errors
/// An invalid folder, or an adapter that does not fit the base.
pub fn merge(base: &Path, adapter: &Path, out: &Path, shard_bytes: u64) -> Result<usize> {
    verify(base, false)?;
    verify(adapter, false)?;
    let mut model = read_config(base)?;
    output_layer::settle(base, &mut model)?;
    let names = model.names;
    let (_, lora) = peft::read_config(adapter)?;
    let scaling = Scaling::new(&lora).map_err(TorchError::Adapter)?;
    let AdapterTensors { pairs, replaced, saved } =
        read_adapter(adapter, &lora, &scaling, names, Device::Cpu)?;
    let files = TensorFolder::open(base)?;
    let tied = model.text.tie_word_embeddings;
    // An output layer or embedding that is changed is no longer the other.
    let is_saved = [HEAD, EMBEDDING].iter().any(|name| saved.contains_key(*name));
    let unties = tied && (is_saved || module(HEAD).is_some_and(|head| pairs.contains_key(head)));
    let mut sources: BTreeMap<String, &Stored> =
        files.tensors.iter().map(|stored| (stored.name.clone(), stored)).collect();
    let stored_as = |name: &str| files.tensors.iter().find(|stored| names.canonical(&stored.name) == name);
    if let Some(embedding) = stored_as(EMBEDDING).filter(|_| unties && stored_as(HEAD).is_none()) {
        sources.insert(names.saved(HEAD), embedding);
    }
    check(&sources, &pairs, &saved, names)?;
    let planned = |(name, stored): (&String, &&Stored)| -> Result<Planned> {
        Ok(Planned { name: name.clone(), kind: files.kind(stored)?, shape: stored.shape.clone() })
    };
    let planned: Vec<Planned> = sources.iter().map(planned).collect::<Result<_>>()?;
    let mut manifest = Manifest::new();
    write_sharded(out, &planned, shard_bytes, &mut manifest, false, &mut |name| {
        let stored = sources.get(name).ok_or_else(|| TorchError::Engine(format!("{name} is not there")))?;
        let (kind, canonical) = (files.kind(stored)?, names.canonical(name));
        if let Some(weight) = saved.get(&canonical).and_then(|saved| saved.weight.as_ref()) {
            return Ok(weight.f_to_kind(kind)?);
        }
        let new = match canonical.as_str() {
            HEAD | EMBEDDING if tied => replaced.get(HEAD).or(replaced.get(EMBEDDING)),
            name => replaced.get(name),
        };
        let weight = match new {
            Some(new) if new.weight.size() == stored.shape => new.weight.f_to_kind(kind)?,
            Some(new) => return Err(resized(&new.name, &new.weight, &stored.shape)),
            None => files.read(stored, kind, Device::Cpu)?,
        };
        match module(&canonical).and_then(|module| pairs.get(module)) {
            Some(pair) => tch::no_grad(|| merged(&weight, pair, scaling.scale(&pair.name))),
            None => Ok(weight),
        }
    })?;
    copy_companions(base, out)?;
    let config = json_file::read_optional(&base.join("config.json"))?;
    let mut said = config.clone();
    output_layer::state(&mut said, tied && !unties);
    if said != config {
        let path = out.join("config.json");
        // The copy of a read-only file is read-only.
        std::fs::remove_file(&path).map_err(TorchError::io("replace", &path))?;
        json_file::write(&path, &said)?;
    }
    manifest.write(out)?;
    Ok(pairs.len())
}

/// The error for a replaced weight of another size than the base's.
pub(crate) fn resized(name: &str, weight: &Tensor, base: &[i64]) -> TorchError {
    let shape = weight.size();
    TorchError::Adapter(format!(
        "the adapter's {name} has shape {shape:?}, the base's {base:?}; a resized vocabulary is not supported"
    ))
}

fn module(name: &str) -> Option<&str> {
    name.strip_suffix(".weight")
}

/// Checks that every pair and every saved weight has a weight of its shape in the merged checkpoint.
fn check(
    sources: &BTreeMap<String, &Stored>,
    pairs: &BTreeMap<String, Pair>,
    saved: &SavedWeights,
    names: TensorNames,
) -> Result<()> {
    let shapes: BTreeMap<String, &[i64]> =
        sources.iter().map(|(name, stored)| (names.canonical(name), stored.shape.as_slice())).collect();
    for (module, pair) in pairs {
        let expected = [pair.b.size()[0], pair.a.size()[1]];
        match shapes.get(&format!("{module}.weight")) {
            None => {
                return Err(TorchError::Adapter(format!(
                    "the adapter changes {module}, which the base has not"
                )));
            }
            Some(shape) if **shape != expected => {
                return Err(TorchError::Adapter(format!(
                    "the adapter of {module} is for a weight of shape {expected:?}; the base's is {shape:?}"
                )));
            }
            Some(_) => {}
        }
    }
    for (name, saved) in saved {
        let (Some(weight), base) = (&saved.weight, shapes.get(name)) else { continue };
        match base {
            None => {
                let text = format!("the adapter holds {}, which the base has not", saved.name);
                return Err(TorchError::Adapter(text));
            }
            Some(shape) if **shape != weight.size() => {
                return Err(resized(&saved.name, weight, shape));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Computes the merged weight in float32 and rounds it to the weight's dtype.
fn merged(weight: &Tensor, pair: &Pair, scale: f64) -> Result<Tensor> {
    let change = pair.b.f_matmul(&pair.a)?.f_mul_scalar(scale)?;
    let sum = weight.f_to_kind(Kind::Float)?.f_add(&change)?;
    let merged = match &pair.magnitude {
        Some(magnitude) => {
            let norms = row_norms(weight, Update { a: &pair.a, b: &pair.b, scale })?;
            sum.f_mul(&magnitude.f_div(&norms)?.f_unsqueeze(1)?)?
        }
        None => sum,
    };
    Ok(merged.f_to_kind(weight.kind())?)
}
