//! Weights of a model: read from a checkpoint folder, checked against the shapes that its config requires, and
//! written back under their original names.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

use isr_api::{Fingerprint, FingerprintBuilder};
use tch::{Device, Kind, Tensor};

use super::Quantization;
use super::kv_cache::duplicate;
use super::linear_weight::LinearWeight;
use super::nf4::Nf4;
use super::nf4_files;
use super::output_layer::{EMBEDDING, HEAD};
use super::tensor_layout::{Found, TensorLayout, is_decoder_linear};
use crate::error::{Result, TorchError};
use crate::lora::{Adapter, Lora, resized};
use crate::manifest::Manifest;
use crate::tensors::{Planned, Reading, hash_tensors, read_each, reading_threads, write_sharded};

/// Tensors by canonical name (`language_model.model.layers.0...`).
///
/// Modules hold shallow clones, so that updates in place are visible to all of them.
pub(crate) struct Weights {
    tensors: BTreeMap<String, Tensor>,
    /// Stored names, except of tensors from the tower's own folder.
    origins: BTreeMap<String, String>,
    /// Tensors that some of `tensors` are views of, one below the other.
    fused: BTreeMap<String, Tensor>,
    /// Weights of linear layers in 4 bits.
    quantised: BTreeMap<String, Nf4>,
    adapter: Option<Adapter>,
    /// Cached digest of the tensors, which an adapter keeps frozen.
    frozen_digest: OnceCell<String>,
}

impl Weights {
    /// Reads the `wanted` tensors of a folder to `device` as `kind`; of the others, headers only.
    ///
    /// # Errors
    /// Missing, damaged or pickled weight files; tensors (listed) that are missing, unexpected, misshapen or of an
    /// unsupported dtype.
    pub(crate) fn read(
        folder: &Path,
        layout: &TensorLayout<'_>,
        wanted: &dyn Fn(&str) -> bool,
        kind: Kind,
        device: Device,
        quantization: Option<Quantization>,
    ) -> Result<Self> {
        let sources = layout.open(folder)?;
        let (mut tensors, mut origins) = (BTreeMap::new(), BTreeMap::new());
        let (mut readings, mut quantised) = (Vec::new(), BTreeMap::new());
        for (name, Found { files, stored, is_own }) in layout.checked(&sources)? {
            if !wanted(&name) {
                continue;
            }
            let read = match quantization {
                _ if nf4_files::is_quantised(files, stored) => {
                    let expected = layout.expected.get(&name).map(Vec::as_slice);
                    Some(nf4_files::read(files, stored, expected, (kind, device))?)
                }
                Some(how) if is_decoder_linear(&name, stored) => {
                    let dense = files.read(stored, kind, device)?;
                    Some(Nf4::quantise(&dense, how == Quantization::Nf4Double)?)
                }
                _ => None,
            };
            if let Some(weight) = read {
                quantised.insert(name, weight);
            } else {
                let target = Tensor::f_empty(&stored.shape, (kind, device))?;
                tensors.insert(name.clone(), target.shallow_clone());
                readings.push(Reading { files, stored, target });
                if is_own {
                    origins.insert(name, stored.name.clone());
                }
            }
        }
        read_each(readings, reading_threads(device))?;
        Ok(Self { quantised, ..Self::of(tensors, origins) })
    }

    fn of(tensors: BTreeMap<String, Tensor>, origins: BTreeMap<String, String>) -> Self {
        Self {
            tensors,
            origins,
            fused: BTreeMap::new(),
            quantised: BTreeMap::new(),
            adapter: None,
            frozen_digest: OnceCell::new(),
        }
    }

    /// Places tensors one below the other in the memory of a new tensor `name`, of which they become views; nothing
    /// if one of them does not exist.
    pub(super) fn fuse(&mut self, name: &str, parts: &[String]) -> Result<()> {
        let Some(tensors) = parts
            .iter()
            .map(|part| self.tensors.get(part).map(Tensor::shallow_clone))
            .collect::<Option<Vec<_>>>()
        else {
            return Ok(());
        };
        let all = Tensor::f_cat(&tensors, 0)?;
        let mut start = 0;
        for (part, tensor) in parts.iter().zip(tensors) {
            let rows = tensor.size()[0];
            self.tensors.insert(part.clone(), all.f_narrow(0, start, rows)?);
            start += rows;
        }
        self.fused.insert(name.to_owned(), all);
        Ok(())
    }

    /// Returns a tensor that [`fuse`](Self::fuse) has made.
    pub(super) fn fused(&self, name: &str) -> Option<Tensor> {
        self.fused.get(name).map(Tensor::shallow_clone)
    }

    /// Loads all values in place from a folder with the same tensors. Nothing is changed if the headers do not fit.
    pub(crate) fn reload(&mut self, folder: &Path, layout: &TensorLayout<'_>) -> Result<()> {
        let sources = layout.open(folder)?;
        let found = layout.checked(&sources)?;
        let reading = |(name, tensor): (&String, &Tensor)| {
            let Found { files, stored, .. } = found.get(name).ok_or_else(|| not_loaded(name))?;
            // Experts are stored in one of two orientations.
            if stored.shape != tensor.size() {
                let (theirs, ours) = (&stored.shape, tensor.size());
                let reason = format!("{name} has shape {theirs:?}, that of the loaded model {ours:?}");
                return Err(TorchError::checkpoint(
                    folder,
                    format!("{reason}; load this folder as policy.model"),
                ));
            }
            Ok(Reading { files, stored, target: tensor.f_detach()? })
        };
        let readings = self.tensors.iter().map(reading).collect::<Result<Vec<_>>>()?;
        let device = readings.first().map_or(Device::Cpu, |reading| reading.target.device());
        read_each(readings, reading_threads(device))
    }

    /// Returns a tensor by name.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| not_loaded(name))
    }

    /// Returns a tensor by name, if the checkpoint has it.
    pub(crate) fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).map(Tensor::shallow_clone)
    }

    /// Returns the weight of a linear layer by name.
    pub(crate) fn linear(&self, name: &str) -> Result<LinearWeight> {
        match self.quantised.get(name) {
            Some(weight) => Ok(LinearWeight::Nf4(weight.share())),
            None => self.get(name).map(LinearWeight::Dense),
        }
    }

    /// Returns the weights of layers with one input, one below the other; of one layer, its weight.
    pub(crate) fn stacked(&self, layers: &[String]) -> Result<LinearWeight> {
        let name = |layer: &String| format!("{layer}.weight");
        match layers {
            [layer] => self.linear(&name(layer)),
            _ => {
                let part = |layer| {
                    let name = name(layer);
                    self.quantised.get(&name).map(Nf4::share).ok_or_else(|| not_loaded(&name))
                };
                layers.iter().map(part).collect::<Result<_>>().map(LinearWeight::Stacked)
            }
        }
    }

    /// Returns whether weights are in 4 bits.
    pub(crate) fn is_quantised(&self) -> bool {
        !self.quantised.is_empty()
    }

    /// Returns the tensors whose names begin with `prefix`, without adapter. They share their memory with these.
    pub(crate) fn part(&self, prefix: &str) -> Self {
        let of_part = self.tensors.iter().filter(|(name, _)| name.starts_with(prefix));
        let tensors = of_part.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let quantised = self.quantised.iter().filter(|(name, _)| name.starts_with(prefix));
        let quantised = quantised.map(|(name, weight)| (name.clone(), weight.share())).collect();
        Self { quantised, ..Self::of(tensors, BTreeMap::new()) }
    }

    /// Returns a copy of the tensors in memory of its own, without adapter.
    pub(crate) fn copied(&self) -> Result<Self> {
        let copy = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), duplicate(&tensor.f_detach()?)?));
        let tensors = self.tensors.iter().map(copy).collect::<Result<_>>()?;
        // Weights in 4 bits never change.
        let quantised = self.part("").quantised;
        Ok(Self { quantised, ..Self::of(tensors, BTreeMap::new()) })
    }

    /// Returns whether a checkpoint folder holds the same values for the tensors whose names begin with `prefix`.
    pub(crate) fn equal_in(&self, folder: &Path, layout: &TensorLayout<'_>, prefix: &str) -> Result<bool> {
        let sources = layout.open(folder)?;
        let found = layout.checked(&sources)?;
        for (name, tensor) in self.tensors.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let Found { files, stored, .. } = found.get(name).ok_or_else(|| not_loaded(name))?;
            if !tensor.f_equal(&files.read(stored, tensor.kind(), tensor.device())?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets the adapter of the layers that are built afterwards, and replaces the weights that it holds in full.
    ///
    /// # Errors
    /// A replaced weight of another shape.
    pub(crate) fn adapt(&mut self, mut adapter: Adapter) -> Result<()> {
        for (name, weight) in adapter.replaced() {
            // A tied output layer is the embedding.
            let name = if self.tensors.contains_key(name) { name } else { EMBEDDING };
            let own = self.get(name)?;
            if own.size() != weight.size() {
                return Err(resized(name, weight, &own.size()));
            }
            let weight = weight.f_to_kind(own.kind())?.f_to_device(own.device())?;
            self.tensors.insert(name.to_owned(), weight);
        }
        self.adapt_in_full(&mut adapter)?;
        self.adapter = Some(adapter);
        Ok(())
    }

    /// Gives the weights that an adapter trains in full its values.
    fn adapt_in_full(&mut self, adapter: &mut Adapter) -> Result<()> {
        let names = self.tensors.keys().chain(self.quantised.keys()).map(String::as_str);
        adapter.choose_saved(names.chain([HEAD]))?;
        if let Some((name, _)) = adapter.saved().find(|(name, _)| self.quantised.contains_key(*name)) {
            return Err(TorchError::Adapter(format!(
                "modules_to_save has {name}, which is in 4 bits and cannot be trained in full"
            )));
        }
        if !self.tensors.contains_key(HEAD) && (adapter.saves(HEAD) || adapter.saves(EMBEDDING)) {
            // Tied until now.
            self.tensors.insert(HEAD.to_owned(), duplicate(&self.get(EMBEDDING)?)?);
        }
        for (name, weight) in adapter.saved() {
            let own = self.get(name).map_err(|_| {
                TorchError::Adapter(format!("the adapter holds {name}, which this model has not"))
            })?;
            let Some(weight) = weight else { continue };
            if own.size() != weight.size() {
                return Err(resized(name, weight, &own.size()));
            }
            let weight = weight.f_to_kind(own.kind())?.f_to_device(own.device())?;
            self.tensors.insert(name.to_owned(), weight);
        }
        Ok(())
    }

    /// Returns the adapter, if there is one.
    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Returns the adapter of a linear layer with the given weight, if it has one.
    pub(crate) fn lora(&self, module: &str, weight: &LinearWeight) -> Result<Option<Lora>> {
        self.adapter.as_ref().map_or(Ok(None), |adapter| adapter.layer(module, weight))
    }

    /// Checks the adapter after all layers are built.
    ///
    /// # Errors
    /// An adapter of which a part is not used.
    pub(crate) fn check_adapter(&mut self) -> Result<()> {
        let Some(adapter) = &mut self.adapter else { return Ok(()) };
        adapter.share_saved(|name| self.tensors.get(name).map(Tensor::shallow_clone));
        adapter.finish(|name: &str| self.tensors.contains_key(name) || self.quantised.contains_key(name))
    }

    /// Writes all tensors into files of at most `limit` bytes under their original names; tensors from the tower's own
    /// folder are named by `rename`. Returns the [`fingerprint`](Self::fingerprint) of weights without adapter, if
    /// `fingerprint`; it is computed in the same pass.
    pub(crate) fn write(
        &self,
        folder: &Path,
        rename: &dyn Fn(&str) -> String,
        limit: u64,
        manifest: &mut Manifest,
        fingerprint: bool,
    ) -> Result<Option<Fingerprint>> {
        if self.is_quantised() {
            let reason = "cannot take a model whose weights are in 4 bits; train an adapter (policy.training.lora), which is \
                          saved alone";
            return Err(TorchError::checkpoint(folder, reason));
        }
        let saved = |name: &String| self.origins.get(name).cloned().unwrap_or_else(|| rename(name));
        let ours: BTreeMap<String, &Tensor> =
            self.tensors.iter().map(|(name, tensor)| (saved(name), tensor)).collect();
        let planned = planned(ours.iter().map(|(name, tensor)| (name, *tensor)));
        let digests = write_sharded(folder, &planned, limit, manifest, fingerprint, &mut |name| {
            ours.get(name).map(|tensor| tensor.shallow_clone()).ok_or_else(|| not_loaded(name))
        })?;
        match fingerprint {
            true => self.fingerprint_of(|name| digests.get(&saved(name))).map(Some),
            false => Ok(None),
        }
    }

    /// Returns a digest of all names and values.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint> {
        let Some(adapter) = &self.adapter else { return self.tensors_fingerprint() };
        let frozen = match self.frozen_digest.get() {
            Some(known) => known.clone(),
            None => {
                let digest = self.tensors_fingerprint()?.to_string();
                self.frozen_digest.get_or_init(|| digest).clone()
            }
        };
        let mut builder = FingerprintBuilder::default();
        builder.update(frozen.as_bytes());
        adapter.digest_into(&mut builder)?;
        Ok(builder.finish())
    }

    /// Returns a digest of the tensors that an adapter does not train.
    fn tensors_fingerprint(&self) -> Result<Fingerprint> {
        let digests = hash_tensors(&planned(self.frozen()), &mut |name| self.get(name))?;
        self.fingerprint_of(|name| digests.get(name))
    }

    /// Iterates over the tensors that an adapter, if there is one, does not train.
    pub(crate) fn frozen(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        let trained = |name: &str| self.adapter.as_ref().is_some_and(|adapter| adapter.saves(name));
        self.tensors.iter().filter(move |(name, _)| !trained(name))
    }

    /// Returns the digest of all names and of the digests of their tensors.
    fn fingerprint_of<'d>(
        &self,
        digest: impl Fn(&String) -> Option<&'d blake3::Hash>,
    ) -> Result<Fingerprint> {
        let mut builder = FingerprintBuilder::default();
        for (name, _) in self.frozen() {
            let digest = digest(name).ok_or_else(|| not_loaded(name))?;
            builder.update(name.as_bytes()).update(digest.as_bytes());
        }
        for (name, weight) in &self.quantised {
            builder.update(name.as_bytes());
            weight.digest_into(&mut builder)?;
        }
        Ok(builder.finish())
    }
}

fn planned<'t>(tensors: impl Iterator<Item = (&'t String, &'t Tensor)>) -> Vec<Planned> {
    let plan = |(name, tensor): (&String, &Tensor)| Planned {
        name: name.clone(),
        kind: tensor.kind(),
        shape: tensor.size(),
    };
    tensors.map(plan).collect()
}

fn not_loaded(name: &str) -> TorchError {
    TorchError::Engine(format!("tensor {name} is not loaded"))
}
