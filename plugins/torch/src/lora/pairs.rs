//! Matrix pairs of an adapter, its full weights, and their file.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::LoraConfig;
use super::dora::RowNorms;
use super::patterns::Scaling;
use super::peft::{self, Part};
use super::saved::{Saved, SavedWeights, module_of};
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
    /// Row norms of the adapted weight `[out]`, of DoRA.
    pub(super) magnitude: Option<Tensor>,
    pub(super) norms: RowNorms,
    /// Name of the module in adapter files.
    pub(super) name: String,
    /// Whether a layer of the model uses it.
    pub(super) used: bool,
}

impl Pair {
    /// Returns the tensors with the parts that they are.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Part, &Tensor)> {
        let magnitude = self.magnitude.as_ref().map(|magnitude| (Part::Magnitude, magnitude));
        [(Part::A, &self.a), (Part::B, &self.b)].into_iter().chain(magnitude)
    }

    /// Checks the shapes for a layer with weight `[out, in]`.
    ///
    /// # Errors
    /// An adapter of another shape.
    pub(super) fn check(&self, module: &str, rank: i64, [out, input]: [i64; 2]) -> Result<()> {
        let expected = [[rank, input], [out, rank]];
        if self.a.size() != expected[0] || self.b.size() != expected[1] {
            let (a, b) = (self.a.size(), self.b.size());
            return Err(TorchError::Adapter(format!(
                "the adapter of {module} has shapes {a:?} and {b:?}; of rank {rank}, on a layer of shape \
                 [{out}, {input}], they are {:?} and {:?}",
                expected[0], expected[1]
            )));
        }
        match self.magnitude.as_ref().map(Tensor::size).filter(|size| *size != [out]) {
            Some(size) => Err(TorchError::Adapter(format!(
                "the adapter of {module} has magnitudes of shape {size:?}; on a layer of shape [{out}, {input}] it is [{out}]"
            ))),
            None => Ok(()),
        }
    }
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
    /// Weights of saved modules.
    pub(super) saved: SavedWeights,
}

/// `A`, `B` and magnitudes, as far as they have been read.
type Parts = [Option<Tensor>; 3];

/// Reads `adapter_model.safetensors`, pairs as float32.
///
/// # Errors
/// A tensor that is no part of a pair, of a saved module, or a copy of embedding or output layer; a pair of which a part is
/// missing, or of another rank than the config's.
pub(super) fn read_adapter(
    folder: &Path,
    config: &LoraConfig,
    scaling: &Scaling,
    names: TensorNames,
    device: Device,
) -> Result<AdapterTensors> {
    let path = folder.join(peft::TENSORS);
    let mut parts: BTreeMap<String, (String, Parts)> = BTreeMap::new();
    let (mut replaced, mut saved) = (BTreeMap::new(), SavedWeights::new());
    for (name, tensor) in read_tensors(&path)? {
        let refuse = |what: String| TorchError::checkpoint(&path, format!("{name} {what}"));
        if let Some((module, part)) = peft::parse_name(&name) {
            check_rank(&tensor, part, scaling.rank(module)).map_err(refuse)?;
            let known = names.canonical(&format!("{module}.weight"));
            let known = known.strip_suffix(".weight").unwrap_or(&known).to_owned();
            let place = parts.entry(known).or_insert_with(|| (module.to_owned(), Parts::default()));
            place.1[part as usize] = Some(tensor.f_to_kind(Kind::Float)?.f_to_device(device)?);
            continue;
        }
        let path_of = peft::path_of(&name);
        if let Some(path) = path_of.filter(|path| module_of(path, &config.modules_to_save).is_some()) {
            let weight = Some(tensor.f_to_device(device)?);
            saved.insert(names.canonical(path), Saved { name, weight });
            continue;
        }
        let copied = peft::parse_copy(&name).map(|module| names.canonical(&format!("{module}.weight")));
        match copied.filter(|weight| [HEAD, EMBEDDING].contains(&weight.as_str())) {
            Some(weight) => {
                replaced.insert(weight, Replaced { weight: tensor.f_to_device(device)?, name });
            }
            None => {
                return Err(refuse(
                    "is no part of an adapter of a linear layer or of a saved module, nor a copy of embedding or output \
                     layer; other kinds of adapters are not supported"
                        .to_owned(),
                ));
            }
        }
    }
    let whole = |(module, (name, parts)): (String, (String, Parts))| match parts {
        [Some(a), Some(b), magnitude] if magnitude.is_some() == config.dora => {
            Ok((module, Pair { a, b, magnitude, norms: RowNorms::default(), name, used: false }))
        }
        [Some(_), Some(_), magnitude] => {
            let has = if magnitude.is_some() { "has" } else { "lacks" };
            let reason = format!(
                "{has} the magnitudes of {name}, but adapter_config.json says use_dora {}",
                config.dora
            );
            Err(TorchError::checkpoint(&path, reason))
        }
        _ => Err(TorchError::checkpoint(&path, format!("has one half only of the adapter of {name}"))),
    };
    Ok(AdapterTensors { pairs: parts.into_iter().map(whole).collect::<Result<_>>()?, replaced, saved })
}

/// Checks the rank of a matrix.
fn check_rank(tensor: &Tensor, part: Part, expected: i64) -> Result<(), String> {
    let size = tensor.size();
    let rank = match (part, size.as_slice()) {
        (Part::A, [rank, _]) | (Part::B, [_, rank]) => *rank,
        (Part::Magnitude, [_]) => return Ok(()),
        (Part::Magnitude, _) => return Err(format!("has shape {size:?}; a vector is expected")),
        _ => return Err(format!("has shape {size:?}; a matrix is expected")),
    };
    match rank == expected {
        true => Ok(()),
        false => Err(format!("has shape {size:?}, but adapter_config.json says rank {expected}")),
    }
}
