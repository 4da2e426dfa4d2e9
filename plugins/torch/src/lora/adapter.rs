//! LoRA adapter of a model.

mod folder;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use isr_api::{FingerprintBuilder, Streams};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use self::folder::check_asked;
use super::dora::{Dora, RowNorms, Update, row_norms};
use super::dropout::Dropout;
use super::layer::Lora;
use super::pairs::{AdapterTensors, Pair, Replaced, read_adapter};
use super::patterns::{Choice, Scaling, is_named};
use super::peft::{self, Part};
use super::saved::{self, SavedWeights};
use super::{LoraConfig, Targets};
use crate::error::{Result, TorchError};
use crate::model::linear_weight::LinearWeight;
use crate::model::names::TensorNames;
use crate::tensors::bytes_of;

/// LoRA adapter of a model: the matrix pairs of its adapted modules by canonical module name, and the weights of modules that
/// are trained in full.
///
/// The pairs of a new adapter are created while the model's layers are built: each layer requests its own.
pub(crate) struct Adapter {
    config: LoraConfig,
    scaling: Scaling,
    choice: Choice,
    /// Seed of the initial values.
    seed: u64,
    /// Content of `adapter_config.json`; `None` for a new adapter.
    source: Option<Value>,
    /// Base folder that checkpoints name.
    base: PathBuf,
    /// Names of the base's format.
    names: TensorNames,
    /// Name prefixes of the parts that a new adapter adapts.
    parts: Vec<String>,
    dropout: Arc<Dropout>,
    /// Version of the values, for what is computed from them.
    version: Arc<AtomicU64>,
    device: Device,
    pairs: RefCell<BTreeMap<String, Pair>>,
    /// Weights of the base that this adapter replaces, by canonical name.
    replaced: BTreeMap<String, Replaced>,
    saved: SavedWeights,
    /// Linear layers of these parts, adapted or not; for error messages.
    seen: RefCell<BTreeSet<String>>,
}

impl Adapter {
    /// Creates an adapter for the linear layers of some parts. It is the identity at first: `A` is random, `B` is zero.
    /// `base` is the base folder that its checkpoints name, `run_seed` the seed where the config has none.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub(crate) fn create(
        config: LoraConfig,
        run_seed: u64,
        base: &Path,
        names: TensorNames,
        parts: Vec<String>,
        device: Device,
    ) -> Result<Self> {
        let seed = config.seed.unwrap_or(run_seed);
        Ok(Self { seed, ..Self::build(config, None, base, names, parts, device)? })
    }

    /// Reads an adapter folder. Of the settings `asked`, dropout overrides the folder's; those that say what is computed
    /// must equal them.
    ///
    /// # Errors
    /// A folder that is not in PEFT's format, an unsupported kind of adapter, or other settings than asked for.
    pub(crate) fn read(
        folder: &Path,
        asked: Option<&LoraConfig>,
        base: &Path,
        names: TensorNames,
        device: Device,
    ) -> Result<Self> {
        let (mut source, mut config) = peft::read_config(folder)?;
        if let Some(asked) = asked {
            check_asked(&config, asked).map_err(|reason| TorchError::checkpoint(folder, reason))?;
            source["lora_dropout"] = json!(asked.dropout);
            config.dropout = asked.dropout;
        }
        let adapter = Self::build(config, Some(source), base, names, Vec::new(), device)?;
        let AdapterTensors { pairs, replaced, saved } =
            read_adapter(folder, &adapter.config, &adapter.scaling, names, device)?;
        adapter.pairs.replace(pairs);
        Ok(Self { replaced, saved, ..adapter })
    }

    fn build(
        config: LoraConfig,
        source: Option<Value>,
        base: &Path,
        names: TensorNames,
        parts: Vec<String>,
        device: Device,
    ) -> Result<Self> {
        let dropout = Arc::new(Dropout::new(config.dropout));
        let (pairs, replaced, saved, seen) = Default::default();
        Ok(Self {
            scaling: Scaling::new(&config).map_err(TorchError::Adapter)?,
            choice: Choice::new(&config).map_err(TorchError::Adapter)?,
            config,
            seed: 0,
            source,
            base: base.to_owned(),
            names,
            parts,
            dropout,
            version: Arc::default(),
            device,
            pairs,
            replaced,
            saved,
            seen,
        })
    }

    /// Returns the weights of the base that this adapter replaces, by canonical name.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.replaced.iter().map(|(name, replaced)| (name.as_str(), &replaced.weight))
    }

    /// Chooses the weights that are trained in full among those of a model, if the adapter is new.
    ///
    /// # Errors
    /// A module that the model has not.
    pub(crate) fn choose_saved<'n>(&mut self, tensors: impl Iterator<Item = &'n str>) -> Result<()> {
        if self.source.is_none() && !self.config.modules_to_save.is_empty() {
            self.saved = saved::choose(&self.config.modules_to_save, tensors, self.names)?;
        }
        Ok(())
    }

    /// Returns the canonical names of the weights that are trained in full, with the values that the adapter's file has.
    pub(crate) fn saved(&self) -> impl Iterator<Item = (&str, Option<&Tensor>)> {
        self.saved.iter().map(|(name, saved)| (name.as_str(), saved.weight.as_ref()))
    }

    /// Returns whether a weight, by its canonical name, is trained in full.
    pub(crate) fn saves(&self, name: &str) -> bool {
        self.saved.contains_key(name)
    }

    /// Returns whether a weight under a prefix is trained in full.
    pub(crate) fn saves_under(&self, prefix: &str) -> bool {
        self.saved.keys().any(|name| name.starts_with(prefix))
    }

    /// Takes the model's tensors as the weights that are trained in full.
    pub(crate) fn share_saved(&mut self, tensor: impl Fn(&str) -> Option<Tensor>) {
        self.saved.iter_mut().for_each(|(name, saved)| saved.weight = tensor(name));
    }

    /// Returns the adapter of a linear layer with weight `[out, in]`, if it has one.
    ///
    /// # Errors
    /// An adapter of another shape.
    pub(crate) fn layer(&self, module: &str, weight: &LinearWeight) -> Result<Option<Lora>> {
        let shape = weight.shape()?;
        let mut pairs = self.pairs.borrow_mut();
        if self.source.is_none() && self.parts.iter().any(|part| module.starts_with(part)) {
            self.seen.borrow_mut().insert(module.to_owned());
            let is_saved = self.saves(&format!("{module}.weight"));
            if !is_saved
                && !pairs.contains_key(module)
                && self.choice.matches(module, &self.names.module(module))
            {
                pairs.insert(module.to_owned(), self.new_pair(module, weight)?);
            }
        }
        let Some(pair) = pairs.get_mut(module) else { return Ok(None) };
        pair.check(module, self.scaling.rank(&pair.name), shape)?;
        pair.used = true;
        let dora = pair.magnitude.as_ref().map(|magnitude| Dora {
            magnitude: magnitude.shallow_clone(),
            norms: Arc::clone(&pair.norms),
            version: Arc::clone(&self.version),
        });
        Ok(Some(Lora {
            a: pair.a.shallow_clone(),
            b: pair.b.shallow_clone(),
            scale: self.scaling.scale(&pair.name),
            dora,
            dropout: Arc::clone(&self.dropout),
            salt: u64::from_le_bytes(self.digest(module)[..8].try_into().unwrap_or_default()),
        }))
    }

    /// Creates a pair: `A` uniform in ±1 / sqrt(in), as PEFT's `kaiming_uniform_(a=sqrt(5))`, and `B` zero; of DoRA, the row
    /// norms of the weight.
    fn new_pair(&self, module: &str, weight: &LinearWeight) -> Result<Pair> {
        let ([out, input], name) = (weight.shape()?, self.names.module(module));
        let rank = self.scaling.rank(&name);
        let mut rng = ChaCha8Rng::from_seed(self.digest(module));
        let bound = 1.0 / (input as f32).sqrt();
        let values: Vec<f32> = (0..rank * input).map(|_| rng.random_range(-bound..bound)).collect();
        let a = Tensor::f_from_slice(&values)?.f_view([rank, input])?.f_to_device(self.device)?;
        let b = Tensor::f_zeros([out, rank], (Kind::Float, self.device))?;
        let magnitude = match self.config.dora {
            true => Some(row_norms(&weight.dense()?, Update { a: &a, b: &b, scale: 0.0 })?),
            false => None,
        };
        Ok(Pair { a, b, magnitude, norms: RowNorms::default(), name, used: false })
    }

    fn digest(&self, module: &str) -> [u8; 32] {
        *blake3::hash(format!("{} {module}", self.seed).as_bytes()).as_bytes()
    }

    /// Checks the adapter after all layers are built.
    ///
    /// # Errors
    /// A target that matches no layer; a pair whose module is not a linear layer. `exists` returns whether the base has
    /// a tensor: layers of a vision tower above the feature layer exist and are not built.
    pub(crate) fn finish(&self, exists: impl Fn(&str) -> bool) -> Result<()> {
        let pairs = self.pairs.borrow();
        if self.source.is_none() {
            self.check_targets(&pairs)?;
        }
        let idle = |module: &str| !is_decoder(module) && exists(&format!("{module}.weight"));
        match pairs.iter().find(|(module, pair)| !pair.used && !idle(module)) {
            Some((module, _)) => Err(TorchError::Adapter(format!(
                "the adapter has matrices for {module}, which is no linear layer of this model that can be adapted"
            ))),
            None if pairs.is_empty() && self.saved.is_empty() => {
                Err(TorchError::Adapter("the adapter has no layer".to_owned()))
            }
            None => Ok(()),
        }
    }

    /// Checks that each setting of a new adapter has a layer that it is about.
    fn check_targets(&self, pairs: &BTreeMap<String, Pair>) -> Result<()> {
        let seen = self.seen.borrow();
        let is_seen =
            |name: &str| seen.iter().any(|it| is_named(it, name) || is_named(&self.names.module(it), name));
        if let Targets::Names(names) = &self.config.targets
            && let Some(name) = names.iter().find(|name| !is_seen(name))
        {
            let known: BTreeSet<&str> =
                seen.iter().filter_map(|module| module.rsplit('.').next()).collect();
            let known: Vec<&str> = known.into_iter().collect();
            return Err(TorchError::Adapter(format!(
                "training.lora.targets names {name}, and no linear layer of the trained parts is called \
                 so; there are {}",
                known.join(", ")
            )));
        }
        if pairs.is_empty() {
            let example = seen.first().map(|module| self.names.module(module)).unwrap_or_default();
            return Err(TorchError::Adapter(format!(
                "training.lora (targets, exclude, layers, modules_to_save) leaves no linear layer of the trained parts to \
                 adapt; module paths are as {example}"
            )));
        }
        let adapted: Vec<&str> = pairs.values().map(|pair| pair.name.as_str()).collect();
        match self.scaling.unmatched(&adapted) {
            Some((key, pattern)) => Err(TorchError::Adapter(format!(
                "training.lora.{key} has `{pattern}`, which matches the end of no adapted module's path; paths are as {}",
                adapted.first().unwrap_or(&"")
            ))),
            None => Ok(()),
        }
    }

    /// Returns whether a module under a prefix is adapted or trained in full.
    pub(crate) fn touches(&self, prefix: &str) -> bool {
        let adapts = |(module, pair): (&String, &Pair)| pair.used && module.starts_with(prefix);
        self.saves_under(prefix) || self.pairs.borrow().iter().any(adapts)
    }

    /// Returns the trainable tensors, by name: those of the pairs, and then the weights that are trained in full.
    pub(crate) fn parameters(&self) -> Vec<(String, Tensor)> {
        let pairs = self.pairs.borrow();
        let of = |(module, pair): (&String, &Pair)| {
            let named =
                |(part, tensor): (Part, &Tensor)| (peft::part_name(module, part), tensor.shallow_clone());
            pair.parts().map(named).collect::<Vec<_>>()
        };
        let of_pairs = pairs.iter().filter(|(_, pair)| pair.used).flat_map(of);
        let saved =
            self.saved().filter_map(|(name, weight)| Some((name.to_owned(), weight?.shallow_clone())));
        of_pairs.chain(saved).collect()
    }

    /// Forgets what was computed from the adapter's values; to be called when they have changed.
    pub(crate) fn invalidate(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns whether training drops inputs out.
    pub(crate) fn drops_out(&self) -> bool {
        self.config.dropout > 0.0
    }

    /// Enables dropout with the masks of a micro-batch, by the step's seed and its index; or disables it.
    pub(crate) fn set_dropout(&self, micro_batch: Option<(u64, u32)>) {
        let seed = |(step, index): (u64, u32)| Streams::new(step).seed(index, "dropout", "");
        self.dropout.seed(micro_batch.map(seed));
    }

    /// Adds settings and values to a digest.
    pub(crate) fn digest_into(&self, builder: &mut FingerprintBuilder) -> Result<()> {
        builder.update(format!("lora {}", self.scaling.scale("")).as_bytes());
        if self.scaling.has_patterns() {
            for pair in self.pairs.borrow().values() {
                builder.update(format!("{}", self.scaling.scale(&pair.name)).as_bytes());
            }
        }
        for (name, tensor) in self.parameters() {
            builder.update(name.as_bytes()).update(&bytes_of(&tensor)?);
        }
        Ok(())
    }
}

/// Returns whether a module is in the decoder or the projector, all layers of which are built.
fn is_decoder(module: &str) -> bool {
    module.starts_with("language_model.") || module.starts_with("multi_modal_projector.")
}
