//! Matrix pairs of an adapter, replaced weights, and their file.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::LoraConfig;
use super::peft::{self, Half};
use crate::error::{Result, TorchError};
use crate::model::names::TensorNames;
use crate::model::output_layer::{EMBEDDING, HEAD};
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

/// Weight of the base that an adapter file holds in full: the embedding or the output layer, as PEFT writes them if one
/// of these is adapted or was resized (`save_embedding_layers`). PEFT loads it into the base.
pub(super) struct Replaced {
    /// The weight, of the file's dtype.
    pub(super) weight: Tensor,
    /// Name in the file.
    pub(super) name: String,
}

/// Content of `adapter_model.safetensors`.
pub(super) struct AdapterTensors {
    /// Matrix pairs by canonical module name.
    pub(super) pairs: BTreeMap<String, Pair>,
    /// Replaced weights by canonical tensor name.
    pub(super) replaced: BTreeMap<String, Replaced>,
}

/// `A` and `B`, as far as they have been read.
type Halves = [Option<Tensor>; 2];

/// Reads `adapter_model.safetensors`, pairs as float32.
///
/// # Errors
/// A tensor that is neither half of a pair nor a copy of embedding or output layer, a pair with one half, or another
/// rank than the config's.
pub(super) fn read_adapter(
    folder: &Path,
    config: &LoraConfig,
    names: TensorNames,
    device: Device,
) -> Result<AdapterTensors> {
    let path = folder.join(peft::TENSORS);
    let mut halves: BTreeMap<String, (String, Halves)> = BTreeMap::new();
    let mut replaced = BTreeMap::new();
    for (name, tensor) in read_tensors(&path)? {
        let refuse = |what: String| TorchError::checkpoint(&path, format!("{name} {what}"));
        let copied = peft::parse_copy(&name).map(|module| names.canonical(&format!("{module}.weight")));
        if let Some(weight) = copied.filter(|weight| [HEAD, EMBEDDING].contains(&weight.as_str())) {
            replaced.insert(weight, Replaced { weight: tensor.f_to_device(device)?, name });
            continue;
        }
        let (module, half) = peft::parse_name(&name).ok_or_else(|| {
            refuse(
                "is neither half of an adapter of a linear layer nor a copy of embedding or output layer; other \
                 kinds of adapters are not supported"
                    .to_owned(),
            )
        })?;
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
    Ok(AdapterTensors { pairs: halves.into_iter().map(whole).collect::<Result<_>>()?, replaced })
}
