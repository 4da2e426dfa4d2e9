//! Folders of adapters: saving, and loading values in place.

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;

use super::Adapter;
use crate::error::{Result, TorchError};
use crate::json_file;
use crate::lora::LoraConfig;
use crate::lora::pairs::{AdapterTensors, Pair, Replaced, read_adapter};
use crate::lora::patterns::Scaling;
use crate::lora::peft::{self, Part};
use crate::lora::saved;
use crate::manifest::Manifest;
use crate::tensors::write_tensors;

impl Adapter {
    /// Writes the adapter folder.
    pub(crate) fn save(&self, folder: &Path, manifest: &mut Manifest) -> Result<()> {
        let pairs = self.pairs.borrow();
        let mut tensors = BTreeMap::new();
        for pair in pairs.values() {
            let named = |(part, tensor): (Part, &Tensor)| {
                (peft::tensor_name(&pair.name, part), tensor.shallow_clone())
            };
            tensors.extend(pair.parts().map(named));
        }
        for Replaced { name, weight } in self.replaced.values() {
            tensors.insert(name.clone(), weight.shallow_clone());
        }
        for saved in self.saved.values() {
            tensors
                .extend(saved.weight.as_ref().map(|weight| (saved.name.clone(), weight.shallow_clone())));
        }
        manifest.record(peft::TENSORS, write_tensors(&folder.join(peft::TENSORS), &tensors)?);
        let config = self.source.clone().unwrap_or_else(|| {
            let adapted: Vec<String> = pairs.values().map(|pair| pair.name.clone()).collect();
            let saved = saved::modules(&self.saved, &self.config.modules_to_save);
            peft::new_config(&self.config, &self.base, &adapted, &saved)
        });
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
        let scaling = Scaling::new(&config).map_err(TorchError::Adapter)?;
        let AdapterTensors { pairs: new, replaced, saved } =
            read_adapter(folder, &config, &scaling, self.names, self.device)?;
        let same_base = replaced.len() == self.replaced.len()
            && replaced.iter().all(|(name, new)| {
                self.replaced.get(name).is_some_and(|own| own.weight.f_equal(&new.weight).unwrap_or(false))
            });
        let mut pairs = self.pairs.borrow_mut();
        let shapes = |pair: &Pair| pair.parts().map(|(_, tensor)| tensor.size()).collect::<Vec<_>>();
        let same = |(a, b): (&String, &Pair), (c, d): (&String, &Pair)| {
            let same_scale = scaling.scale(&b.name) == self.scaling.scale(&d.name);
            a == c && shapes(b) == shapes(d) && same_scale
        };
        let fits = new.len() == pairs.len() && new.iter().zip(pairs.iter()).all(|(a, b)| same(a, b));
        let size = |weight: &Option<Tensor>| weight.as_ref().map(Tensor::size);
        let same_saved = saved.len() == self.saved.len()
            && saved.iter().zip(&self.saved).all(|((name, new), (own_name, own))| {
                name == own_name && size(&new.weight) == size(&own.weight)
            });
        if !fits || !same_base || !same_saved {
            let reason =
                "is an adapter of other layers, rank, scale or saved modules, embedding or output layer";
            return Err(TorchError::checkpoint(folder, reason));
        }
        self.invalidate();
        tch::no_grad(|| {
            for (pair, new) in pairs.values_mut().zip(new.values()) {
                for ((_, own), (_, new)) in pair.parts().zip(new.parts()) {
                    own.shallow_clone().f_copy_(new)?;
                }
            }
            for (own, new) in self.saved.values().zip(saved.values()) {
                if let (Some(own), Some(new)) = (&own.weight, &new.weight) {
                    own.shallow_clone().f_copy_(new)?;
                }
            }
            Ok(())
        })
    }
}

/// Checks the settings of a folder against those asked for.
pub(super) fn check_asked(has: &LoraConfig, asked: &LoraConfig) -> Result<(), String> {
    let plain = |config: &LoraConfig| (config.rank, config.alpha, config.rslora);
    if plain(has) != plain(asked) {
        return Err(format!(
            "has rank, alpha and rslora {:?}, but training.lora asks for {:?}; leave them out \
             or let them agree",
            plain(has),
            plain(asked)
        ));
    }
    let patterned =
        |config: &LoraConfig| (config.dora, config.rank_pattern.clone(), config.alpha_pattern.clone());
    // A folder names saved modules by their whole paths.
    let covers = |names: &[String], others: &[String]| {
        others
            .iter()
            .all(|other| names.iter().any(|name| other.ends_with(name) || name.ends_with(other.as_str())))
    };
    let (kept, wanted) = (&has.modules_to_save, &asked.modules_to_save);
    if patterned(has) != patterned(asked) || !covers(kept, wanted) || !covers(wanted, kept) {
        return Err(format!(
            "has dora, rank_pattern and alpha_pattern {:?} and modules_to_save {kept:?}, but training.lora asks for {:?} \
             and {wanted:?}; leave training.lora out or let them agree",
            patterned(has),
            patterned(asked)
        ));
    }
    Ok(())
}
