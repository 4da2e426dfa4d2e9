//! A model's tensors by name: read from a checkpoint folder, checked against what the config promises,
//! written back under the names that they had.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use isr_core::{Fingerprint, FingerprintBuilder};
use tch::{Device, Kind, Tensor};

use super::kv_cache::duplicate;
use crate::error::{Result, TorchError};
use crate::lora::{Adapter, Lora};
use crate::manifest::Manifest;
use crate::tensors::{Planned, Stored, TensorFolder, for_each_piece, write_sharded};

/// What a config says about the tensors of its checkpoint.
pub(crate) struct TensorLayout<'a> {
    /// Our name for a name in the file: several versions of transformers name the same things.
    pub(crate) rename: &'a dyn Fn(&str) -> String,
    /// All tensors, by our name, with their shapes.
    pub(crate) expected: HashMap<String, Vec<i64>>,
    /// What may be there beside them, and is not read.
    pub(crate) ignored: &'a dyn Fn(&str) -> bool,
    /// What may be there beside them, and is kept as it is.
    pub(crate) carried: &'a dyn Fn(&str) -> bool,
    /// The prefix of the tower's names.
    pub(crate) tower: &'a str,
    /// A folder with the tower's tensors (`vision_model....`), for checkpoints without.
    pub(crate) beside: Option<PathBuf>,
}

/// Tensors by our names (`language_model.model.layers.0...`).
///
/// Modules hold shallow clones: all of them see an update in place.
pub(crate) struct Weights {
    tensors: BTreeMap<String, Tensor>,
    /// Names in the checkpoint's files; without those that came from beside it.
    origins: BTreeMap<String, String>,
    adapter: Option<Adapter>,
    /// The tensors' digest, where an adapter keeps them as they are.
    frozen: OnceCell<String>,
}

impl Weights {
    /// Reads the `wanted` tensors of a folder to `device` as `kind`, the others' headers only.
    ///
    /// # Errors
    /// Weights that are missing, damaged or pickled; tensors that are missing, misshapen, of a type that
    /// no weight has, or unexpected, listed.
    pub(crate) fn read(
        folder: &Path,
        layout: &TensorLayout<'_>,
        wanted: &dyn Fn(&str) -> bool,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        let sources = layout.open(folder)?;
        let (mut tensors, mut origins) = (BTreeMap::new(), BTreeMap::new());
        for (name, Found { files, stored, is_own }) in layout.checked(&sources)? {
            if wanted(&name) {
                tensors.insert(name.clone(), files.read(stored, kind, device)?);
                if is_own {
                    origins.insert(name, stored.name.clone());
                }
            }
        }
        Ok(Self { tensors, origins, adapter: None, frozen: OnceCell::new() })
    }

    /// Replaces all values by those of a folder with the same tensors. Nothing is changed where the
    /// headers do not fit.
    pub(crate) fn reload(&mut self, folder: &Path, layout: &TensorLayout<'_>) -> Result<()> {
        let sources = layout.open(folder)?;
        let found = layout.checked(&sources)?;
        tch::no_grad(|| {
            for (name, tensor) in &mut self.tensors {
                let Found { files, stored, .. } = found.get(name).ok_or_else(|| not_loaded(name))?;
                files.read_into(stored, tensor)?;
            }
            Ok(())
        })
    }

    /// The tensor of that name.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| not_loaded(name))
    }

    /// The tensor of that name, if the checkpoint has one.
    pub(crate) fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).map(Tensor::shallow_clone)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.iter()
    }

    /// Returns the tensors whose names begin with `prefix`, without adapter. They share their memory with these.
    pub(crate) fn part(&self, prefix: &str) -> Self {
        let of_part = self.tensors.iter().filter(|(name, _)| name.starts_with(prefix));
        let tensors = of_part.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Self { tensors, origins: BTreeMap::new(), adapter: None, frozen: OnceCell::new() }
    }

    /// Returns a copy of the tensors in memory of its own, without adapter.
    pub(crate) fn copied(&self) -> Result<Self> {
        let copy = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), duplicate(&tensor.f_detach()?)?));
        let tensors = self.tensors.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { tensors, origins: BTreeMap::new(), adapter: None, frozen: OnceCell::new() })
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

    /// Puts an adapter on the layers that are built from here on.
    pub(crate) fn adapt(&mut self, adapter: Adapter) {
        self.adapter = Some(adapter);
    }

    /// The adapter, if there is one.
    pub(crate) fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The adapter of the linear layer of that name with this weight, if it has one.
    pub(crate) fn lora(&self, module: &str, weight: &Tensor) -> Result<Option<Lora>> {
        self.adapter.as_ref().map_or(Ok(None), |adapter| adapter.layer(module, weight))
    }

    /// To be called when all layers are built.
    ///
    /// # Errors
    /// An adapter that is not wholly taken.
    pub(crate) fn check_adapter(&self) -> Result<()> {
        let exists = |name: &str| self.tensors.contains_key(name);
        self.adapter.as_ref().map_or(Ok(()), |adapter| adapter.finish(exists))
    }

    /// Writes all tensors into files of at most `limit` bytes, under the names that they had, or where they
    /// came from beside the checkpoint, those that `rename` gives.
    pub(crate) fn write(
        &self,
        folder: &Path,
        rename: &dyn Fn(&str) -> String,
        limit: u64,
        manifest: &mut Manifest,
    ) -> Result<()> {
        let mut ours = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            ours.insert(self.origins.get(name).cloned().unwrap_or_else(|| rename(name)), tensor);
        }
        let planned = |(name, tensor): (&String, &&Tensor)| Planned {
            name: name.clone(),
            kind: tensor.kind(),
            shape: tensor.size(),
        };
        let planned: Vec<Planned> = ours.iter().map(planned).collect();
        write_sharded(folder, &planned, limit, manifest, &mut |name| {
            ours.get(name).map(|tensor| tensor.shallow_clone()).ok_or_else(|| not_loaded(name))
        })
    }

    /// A digest of all names and values.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint> {
        let Some(adapter) = &self.adapter else { return self.tensors_fingerprint() };
        let frozen = match self.frozen.get() {
            Some(known) => known.clone(),
            None => {
                let digest = self.tensors_fingerprint()?.to_string();
                self.frozen.get_or_init(|| digest).clone()
            }
        };
        let mut builder = FingerprintBuilder::default();
        builder.update(frozen.as_bytes());
        adapter.digest_into(&mut builder)?;
        Ok(builder.finish())
    }

    fn tensors_fingerprint(&self) -> Result<Fingerprint> {
        let mut builder = FingerprintBuilder::default();
        for (name, tensor) in &self.tensors {
            let mut hasher = blake3::Hasher::new();
            for_each_piece(tensor, |bytes| {
                hasher.update(bytes);
                Ok(())
            })?;
            builder.update(name.as_bytes()).update(hasher.finalize().as_bytes());
        }
        Ok(builder.finish())
    }
}

fn not_loaded(name: &str) -> TorchError {
    TorchError::Engine(format!("tensor {name} is not loaded"))
}

/// A tensor in a file.
pub(crate) struct Found<'f> {
    files: &'f TensorFolder,
    stored: &'f Stored,
    /// Whether the file is the checkpoint's own.
    is_own: bool,
}

impl TensorLayout<'_> {
    /// Opens a checkpoint folder, and the tower's own where the checkpoint is without.
    pub(crate) fn open(&self, folder: &Path) -> Result<Vec<TensorFolder>> {
        let files = TensorFolder::open(folder)?;
        let has_tower =
            files.tensors.iter().any(|stored| (self.rename)(&stored.name).starts_with(self.tower));
        match &self.beside {
            Some(beside) if !has_tower => Ok(vec![files, TensorFolder::open(beside)?]),
            _ => Ok(vec![files]),
        }
    }

    /// The tensors that are expected, found among those of some folders by their headers; the first folder
    /// is the checkpoint's.
    pub(crate) fn checked<'f>(&self, sources: &'f [TensorFolder]) -> Result<BTreeMap<String, Found<'f>>> {
        let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
        for (index, files) in sources.iter().enumerate() {
            for stored in &files.tensors {
                let is_own = index == 0;
                let Some(name) = self.name(&stored.name, is_own) else { continue };
                let shape = self.expected.get(&name);
                if shape.is_none() && !(self.carried)(&name) {
                    problems.push(format!("unexpected {name}"));
                }
                if let Some(shape) = shape.filter(|shape| **shape != stored.shape) {
                    problems.push(format!("{name} has shape {:?}, expected {shape:?}", stored.shape));
                }
                if files.kind(stored)? == Kind::Int64 {
                    let text =
                        format!("{name} has type {:?}, a floating-point one is expected", stored.dtype);
                    problems.push(text);
                }
                let again: Option<Found<'f>> = found.insert(name, Found { files, stored, is_own });
                if let Some(other) = again {
                    problems.push(format!("{} and {} are the same tensor", other.stored.name, stored.name));
                }
            }
        }
        let missing = self.expected.iter().filter(|(name, _)| !found.contains_key(*name));
        problems.extend(missing.map(|(name, shape)| format!("missing {name} {shape:?}")));
        match (problems.is_empty(), sources) {
            (true, _) | (_, []) => Ok(found),
            (false, [files, ..]) => Err(TorchError::checkpoint(&files.path, listed(problems))),
        }
    }

    /// Our name of a tensor, if it is to be read.
    fn name(&self, stored: &str, is_own: bool) -> Option<String> {
        if is_own {
            return Some((self.rename)(stored)).filter(|name| !(self.ignored)(name));
        }
        let name = format!("{}{}", self.tower, stored.strip_prefix("vision_model.")?);
        self.expected.contains_key(&name).then_some(name)
    }
}

fn listed(mut problems: Vec<String>) -> String {
    problems.sort();
    let count = problems.len();
    problems.truncate(12);
    let more = match count - problems.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{count} tensors do not fit config.json: {}{more}", problems.join("; "))
}
