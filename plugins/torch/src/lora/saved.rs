//! Modules that an adapter trains and saves in full (`modules_to_save` of PEFT).

use std::collections::{BTreeMap, BTreeSet};

use tch::Tensor;

use super::peft;
use crate::error::{Result, TorchError};
use crate::model::names::TensorNames;

/// Weight of a module that an adapter holds in full.
pub(super) struct Saved {
    /// Name in the adapter's file.
    pub(super) name: String,
    /// The weight: the file's until the adapter is put on a model, then the model's own.
    pub(super) weight: Option<Tensor>,
}

/// Saved weights by canonical tensor name.
pub(super) type SavedWeights = BTreeMap<String, Saved>;

/// Returns the outermost module that one of `targets` names and that a tensor, by its path in the reference
/// implementation, belongs to. As in PEFT, names are those at the ends of paths, at dots or not.
pub(super) fn module_of<'p>(path: &'p str, targets: &[String]) -> Option<&'p str> {
    let modules = path.match_indices('.').map(|(at, _)| &path[..at]);
    modules.into_iter().find(|module| targets.iter().any(|target| module.ends_with(target.as_str())))
}

/// Returns the weights of the modules that `targets` name among a model's tensors, by canonical names.
///
/// # Errors
/// A name that no module has.
pub(super) fn choose<'n>(
    targets: &[String],
    tensors: impl Iterator<Item = &'n str>,
    names: TensorNames,
) -> Result<SavedWeights> {
    let (mut chosen, mut modules) = (SavedWeights::new(), BTreeSet::new());
    for tensor in tensors {
        let path = names.module(tensor);
        if let Some(module) = module_of(&path, targets) {
            modules.insert(module.to_owned());
            chosen.insert(tensor.to_owned(), Saved { name: peft::copy_name(&path), weight: None });
        }
    }
    match targets.iter().find(|target| !modules.iter().any(|module| module.ends_with(target.as_str()))) {
        Some(target) => Err(TorchError::Adapter(format!(
            "training.lora.modules_to_save names {target}, and no module of this model is called so, or one of a module \
             that is saved itself"
        ))),
        None => Ok(chosen),
    }
}

/// Returns the paths of the modules that saved weights belong to, in the reference implementation.
pub(super) fn modules(saved: &SavedWeights, targets: &[String]) -> Vec<String> {
    let paths = saved.values().filter_map(|saved| peft::path_of(&saved.name));
    let modules: BTreeSet<&str> = paths.filter_map(|path| module_of(path, targets)).collect();
    modules.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_belongs_to_the_outermost_module_that_is_named() {
        let targets = ["lm_head", "projector", "linear_2", "norm"].map(str::to_owned);
        for (path, module) in [
            ("lm_head.weight", Some("lm_head")),
            ("model.multi_modal_projector.linear_2.bias", Some("model.multi_modal_projector")),
            ("model.layers.1.input_layernorm.weight", Some("model.layers.1.input_layernorm")),
            ("model.layers.1.mlp.up_proj.weight", None),
            ("lm_head", None),
        ] {
            assert_eq!(module_of(path, &targets), module, "{path}");
        }
    }
}
