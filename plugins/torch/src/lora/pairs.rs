//! Matrix pairs of an adapter, and their file.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::LoraConfig;
use super::peft::{self, Half};
use crate::error::{Result, TorchError};
use crate::model::names::TensorNames;
use crate::tensors::read_tensors;

/// Matrix pair of one module, in float32.
pub(super) struct Pair {
    /// `[rank, in]`.
    pub(super) a: Tensor,
    /// `[out, rank]`.
    pub(super) b: Tensor,
    /// Name of the module in adapter files.
    pub(super) name: String,
    /// Whether a layer of the model uses it.
    pub(super) used: bool,
}

/// Returns the scale of the low-rank update: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
pub(super) fn scale(config: &LoraConfig) -> f64 {
    let rank = config.rank as f64;
    config.alpha / if config.rslora { rank.sqrt() } else { rank }
}

/// `A` and `B`, as far as they have been read.
type Halves = [Option<Tensor>; 2];

/// Reads `adapter_model.safetensors` as float32, by canonical module name.
///
/// # Errors
/// A tensor that is not half of a pair, a pair with one half, or another rank than the config's.
pub(super) fn read_pairs(
    folder: &Path,
    config: &LoraConfig,
    names: TensorNames,
    device: Device,
) -> Result<BTreeMap<String, Pair>> {
    let path = folder.join(peft::TENSORS);
    let mut halves: BTreeMap<String, (String, Halves)> = BTreeMap::new();
    for (name, tensor) in read_tensors(&path)? {
        let refuse = |what: String| TorchError::checkpoint(&path, format!("{name} {what}"));
        let (module, half) = peft::parse_name(&name)
            .ok_or_else(|| refuse("is not half of an adapter of a linear layer".to_owned()))?;
        let size = tensor.size();
        let rank = match (half, size.as_slice()) {
            (Half::A, [rank, _]) | (Half::B, [_, rank]) => *rank,
            _ => return Err(refuse(format!("has shape {size:?}; a matrix is expected"))),
        };
        if rank != config.rank {
            return Err(refuse(format!(
                "has shape {size:?}, but adapter_config.json says rank {}",
                config.rank
            )));
        }
        let known = names.canonical(&format!("{module}.weight"));
        let known = known.strip_suffix(".weight").unwrap_or(&known).to_owned();
        let place = halves.entry(known).or_insert_with(|| (module.to_owned(), [None, None]));
        place.1[half as usize] = Some(tensor.f_to_kind(Kind::Float)?.f_to_device(device)?);
    }
    let whole = |(module, (name, [a, b])): (String, (String, Halves))| match (a, b) {
        (Some(a), Some(b)) => Ok((module, Pair { a, b, name, used: false })),
        _ => Err(TorchError::checkpoint(&path, format!("has one half only of the adapter of {name}"))),
    };
    halves.into_iter().map(whole).collect()
}
