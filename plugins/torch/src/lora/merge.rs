//! Merging an adapter into its base: `W + scale * B A`.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::pairs::{Pair, read_pairs, scale};
use super::peft;
use crate::checkpoint::copy_companions;
use crate::error::{Result, TorchError};
use crate::manifest::{Manifest, verify};
use crate::model::families::read_config;
use crate::model::names::TensorNames;
use crate::tensors::{Planned, Stored, TensorFolder, write_sharded};

/// Merges an adapter into its base checkpoint and writes the result to `out`, an empty folder, with the base's names
/// and dtypes, in files of at most `shard_bytes` bytes. Holds one tensor in memory at a time. Returns the number of
/// merged weights.
///
/// # Errors
/// An invalid folder, or an adapter that does not fit the base.
pub fn merge(base: &Path, adapter: &Path, out: &Path, shard_bytes: u64) -> Result<usize> {
    verify(base, false)?;
    verify(adapter, false)?;
    let names = read_config(base)?.names;
    let (_, config) = peft::read_config(adapter)?;
    let pairs = read_pairs(adapter, &config, names, Device::Cpu)?;
    let files = TensorFolder::open(base)?;
    let found = check(&files, &pairs, names)?;
    let planned = |stored: &Stored| -> Result<Planned> {
        Ok(Planned { name: stored.name.clone(), kind: files.kind(stored)?, shape: stored.shape.clone() })
    };
    let planned: Vec<Planned> = files.tensors.iter().map(planned).collect::<Result<_>>()?;
    let by_name: BTreeMap<&str, &Stored> =
        files.tensors.iter().map(|stored| (stored.name.as_str(), stored)).collect();
    let mut manifest = Manifest::new();
    write_sharded(out, &planned, shard_bytes, &mut manifest, &mut |name| {
        let stored = by_name.get(name).ok_or_else(|| TorchError::Engine(format!("{name} is not there")))?;
        let weight = files.read(stored, files.kind(stored)?, Device::Cpu)?;
        match module(&names.canonical(name)).and_then(|module| pairs.get(module)) {
            Some(pair) => tch::no_grad(|| merged(&weight, pair, scale(&config))),
            None => Ok(weight),
        }
    })?;
    copy_companions(base, out)?;
    manifest.write(out)?;
    Ok(found)
}

fn module(name: &str) -> Option<&str> {
    name.strip_suffix(".weight")
}

/// Checks that every pair has a weight of its shape in the base; returns the number of pairs.
fn check(files: &TensorFolder, pairs: &BTreeMap<String, Pair>, names: TensorNames) -> Result<usize> {
    let shapes: BTreeMap<String, &[i64]> = files
        .tensors
        .iter()
        .map(|stored| (names.canonical(&stored.name), stored.shape.as_slice()))
        .collect();
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
    Ok(pairs.len())
}

/// Computes the merged weight in float32 and rounds it to the weight's dtype.
fn merged(weight: &Tensor, pair: &Pair, scale: f64) -> Result<Tensor> {
    let change = pair.b.f_matmul(&pair.a)?.f_mul_scalar(scale)?;
    Ok(weight.f_to_kind(Kind::Float)?.f_add(&change)?.f_to_kind(weight.kind())?)
}
