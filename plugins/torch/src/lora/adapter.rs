//! LoRA adapter of a model.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{FingerprintBuilder, Streams};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::dropout::Dropout;
use super::layer::Lora;
use super::pairs::{AdapterTensors, Pair, Replaced, read_adapter, scale};
use super::peft::{self, Half};
use super::{LoraConfig, Targets};
use crate::error::{Result, TorchError};
use crate::json_file;
use crate::manifest::Manifest;
use crate::model::names::TensorNames;
use crate::tensors::{bytes_of, write_tensors};

/// LoRA adapter of a model: the matrix pairs of its adapted modules, by canonical module name.
///
/// The pairs of a new adapter are created while the model's layers are built: each layer requests its own.
pub(crate) struct Adapter {
    config: LoraConfig,
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
    device: Device,
    pairs: RefCell<BTreeMap<String, Pair>>,
    /// Weights of the base that this adapter replaces, by canonical name.
    replaced: BTreeMap<String, Replaced>,
    /// Linear layers of these parts, adapted or not; for error messages.
    seen: RefCell<BTreeSet<String>>,
}

impl Adapter {
    /// Creates an adapter for the linear layers of some parts. It is the identity at first: `A` is random, `B` is zero.
    /// `base` is the base folder that its checkpoints name, `run_seed` the seed where the config has none.
    pub(crate) fn create(
        config: LoraConfig,
        run_seed: u64,
        base: &Path,
        names: TensorNames,
        parts: Vec<String>,
        device: Device,
    ) -> Self {
        let seed = config.seed.unwrap_or(run_seed);
        Self { seed, ..Self::build(config, None, base, names, parts, device) }
    }

    /// Reads an adapter folder. Of the settings `asked`, dropout overrides the folder's; rank, alpha and rsLoRA must
    /// equal them.
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
            let (has, wants) =
                ((config.rank, config.alpha, config.rslora), (asked.rank, asked.alpha, asked.rslora));
            if has != wants {
                let reason = format!(
                    "has rank, alpha and rslora {has:?}, but training.lora asks for {wants:?}; leave them out \
                     or let them agree"
                );
                return Err(TorchError::checkpoint(folder, reason));
            }
            source["lora_dropout"] = json!(asked.dropout);
            config = asked.clone();
        }
        let AdapterTensors { pairs, replaced } = read_adapter(folder, &config, names, device)?;
        let adapter = Self::build(config, Some(source), base, names, Vec::new(), device);
        adapter.pairs.replace(pairs);
        Ok(Self { replaced, ..adapter })
    }

    fn build(
        config: LoraConfig,
        source: Option<Value>,
        base: &Path,
        names: TensorNames,
        parts: Vec<String>,
        device: Device,
    ) -> Self {
        let dropout = Arc::new(Dropout::new(config.dropout));
        let (pairs, replaced, seen) = Default::default();
        Self {
            config,
            seed: 0,
            source,
            base: base.to_owned(),
            names,
            parts,
            dropout,
            device,
            pairs,
            replaced,
            seen,
        }
    }

    /// Returns the weights of the base that this adapter replaces, by canonical name.
    pub(crate) fn replaced(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.replaced.iter().map(|(name, replaced)| (name.as_str(), &replaced.weight))
    }

    /// Returns the adapter of a linear layer with weight `[out, in]`, if it has one.
    ///
    /// # Errors
    /// An adapter of another shape.
    pub(crate) fn layer(&self, module: &str, weight: &Tensor) -> Result<Option<Lora>> {
        let (out, input) = weight.size2()?;
        let mut pairs = self.pairs.borrow_mut();
        if self.source.is_none() && self.parts.iter().any(|part| module.starts_with(part)) {
            self.seen.borrow_mut().insert(module.to_owned());
            if self.config.targets.matches(module) {
                pairs.insert(module.to_owned(), self.new_pair(module, out, input)?);
            }
        }
        let Some(pair) = pairs.get_mut(module) else { return Ok(None) };
        let (rank, expected) = (self.config.rank, [[self.config.rank, input], [out, self.config.rank]]);
        if pair.a.size() != expected[0] || pair.b.size() != expected[1] {
            let (a, b) = (pair.a.size(), pair.b.size());
            return Err(TorchError::Adapter(format!(
                "the adapter of {module} has shapes {a:?} and {b:?}; of rank {rank}, on a layer of shape \
                 [{out}, {input}], they are {:?} and {:?}",
                expected[0], expected[1]
            )));
        }
        pair.used = true;
        Ok(Some(Lora {
            a: pair.a.shallow_clone(),
            b: pair.b.shallow_clone(),
            scale: self.scale(),
            dropout: Arc::clone(&self.dropout),
            salt: u64::from_le_bytes(self.digest(module)[..8].try_into().unwrap_or_default()),
        }))
    }

    /// Returns the scale of the low-rank update.
    pub(super) fn scale(&self) -> f64 {
        scale(&self.config)
    }

    /// Creates a pair: `A` uniform in ±1 / sqrt(in), as PEFT's `kaiming_uniform_(a=sqrt(5))`, and `B` zero.
    fn new_pair(&self, module: &str, out: i64, input: i64) -> Result<Pair> {
        let mut rng = ChaCha8Rng::from_seed(self.digest(module));
        let bound = 1.0 / (input as f32).sqrt();
        let values: Vec<f32> =
            (0..self.config.rank * input).map(|_| rng.random_range(-bound..bound)).collect();
        let a =
            Tensor::f_from_slice(&values)?.f_view([self.config.rank, input])?.f_to_device(self.device)?;
        let b = Tensor::f_zeros([out, self.config.rank], (Kind::Float, self.device))?;
        Ok(Pair { a, b, name: self.names.module(module), used: false })
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
        let (pairs, seen) = (self.pairs.borrow(), self.seen.borrow());
        if let (None, Targets::Names(names)) = (&self.source, &self.config.targets) {
            let one = |name: &String| Targets::Names(vec![name.clone()]);
            if let Some(name) =
                names.iter().find(|name| !seen.iter().any(|module| one(name).matches(module)))
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
        }
        let idle = |module: &str| !is_decoder(module) && exists(&format!("{module}.weight"));
        match pairs.iter().find(|(module, pair)| !pair.used && !idle(module)) {
            Some((module, _)) => Err(TorchError::Adapter(format!(
                "the adapter has matrices for {module}, which is no linear layer of this model that can be adapted"
            ))),
            None if pairs.is_empty() => Err(TorchError::Adapter("the adapter has no layer".to_owned())),
            None => Ok(()),
        }
    }

    /// Returns whether a module under a prefix is adapted.
    pub(crate) fn touches(&self, prefix: &str) -> bool {
        self.pairs.borrow().iter().any(|(module, pair)| pair.used && module.starts_with(prefix))
    }

    /// Returns the trainable tensors, by name.
    pub(crate) fn parameters(&self) -> Vec<(String, Tensor)> {
        let pairs = self.pairs.borrow();
        let of = |(module, pair): (&String, &Pair)| {
            let name = |half| format!("{module}.lora_{half}.weight");
            [(name("A"), pair.a.shallow_clone()), (name("B"), pair.b.shallow_clone())]
        };
        pairs.iter().filter(|(_, pair)| pair.used).flat_map(of).collect()
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
        builder.update(format!("lora {}", self.scale()).as_bytes());
        for (name, tensor) in self.parameters() {
            builder.update(name.as_bytes()).update(&bytes_of(&tensor)?);
        }
        Ok(())
    }

    /// Writes the adapter folder.
    pub(crate) fn save(&self, folder: &Path, manifest: &mut Manifest) -> Result<()> {
        let pairs = self.pairs.borrow();
        let mut tensors = BTreeMap::new();
        for pair in pairs.values() {
            tensors.insert(peft::tensor_name(&pair.name, Half::A), pair.a.shallow_clone());
            tensors.insert(peft::tensor_name(&pair.name, Half::B), pair.b.shallow_clone());
        }
        for Replaced { name, weight } in self.replaced.values() {
            tensors.insert(name.clone(), weight.shallow_clone());
        }
        manifest.record(peft::TENSORS, write_tensors(&folder.join(peft::TENSORS), &tensors)?);
        let modules: Vec<String> = pairs.values().map(|pair| pair.name.clone()).collect();
        let config = self.source.clone();
        let config = config.unwrap_or_else(|| peft::new_config(&self.config, &self.base, &modules));
        json_file::write(&folder.join(peft::CONFIG), &config)
    }

    /// Loads values from a folder that `save` wrote.
    ///
    /// # Errors
    /// An adapter of other modules, rank or scale; nothing is changed then.
    pub(crate) fn reload(&self, folder: &Path) -> Result<()> {
        if !peft::is_adapter(folder) {
            let reason = "is no adapter, but training.lora trains one; load it as policy.model";
            return Err(TorchError::checkpoint(folder, reason));
        }
        let (_, config) = peft::read_config(folder)?;
        let AdapterTensors { pairs: new, replaced } =
            read_adapter(folder, &config, self.names, self.device)?;
        let same_base = replaced.len() == self.replaced.len()
            && replaced.iter().all(|(name, new)| {
                self.replaced.get(name).is_some_and(|own| own.weight.f_equal(&new.weight).unwrap_or(false))
            });
        let mut pairs = self.pairs.borrow_mut();
        let same = |(a, b): (&String, &Pair), (c, d): (&String, &Pair)| {
            a == c && b.a.size() == d.a.size() && b.b.size() == d.b.size()
        };
        let fits = new.len() == pairs.len() && new.iter().zip(pairs.iter()).all(|(a, b)| same(a, b));
        if !fits || !same_base || scale(&config) != self.scale() {
            let reason = "is an adapter of other layers, rank, scale, embedding or output layer";
            return Err(TorchError::checkpoint(folder, reason));
        }
        tch::no_grad(|| {
            for (pair, new) in pairs.values_mut().zip(new.values()) {
                pair.a.f_copy_(&new.a)?;
                pair.b.f_copy_(&new.b)?;
            }
            Ok(())
        })
    }
}

/// Returns whether a module is in the decoder or the projector, all layers of which are built.
fn is_decoder(module: &str) -> bool {
    module.starts_with("language_model.") || module.starts_with("multi_modal_projector.")
}
