//! LoRA adapters (arXiv 2106.09685) on linear layers, in PEFT's format (peft 0.21).
//!
//! | topic | module |
//! |---|---|
//! | settings | [`LoraConfig`] |
//! | adapter of one layer | `layer.rs` |
//! | adapter of a model: creation, saving, loading | `adapter.rs` |
//! | matrices and their files | `pairs.rs` |
//! | `adapter_config.json` and tensor names | `peft.rs` |
//! | reproducible dropout | `dropout.rs` |
//! | rank, scale and size of an adapter folder | `summary.rs` |
//! | merging into the base | `merge.rs` |

mod adapter;
mod dropout;
mod layer;
mod merge;
mod pairs;
mod peft;
mod summary;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use adapter::Adapter;
pub(crate) use layer::Lora;
pub use merge::merge;
pub(crate) use merge::resized;
pub(crate) use peft::{base_of, is_adapter};
pub use summary::AdapterSummary;
pub(crate) use summary::summary;

/// LoRA settings: low-rank adapters on the linear layers of the trained parts. Base weights stay frozen, and a
/// checkpoint is the adapter alone, in PEFT's format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// LoRA rank. Default 16.
    pub rank: i64,
    /// LoRA alpha: an adapter's output is scaled by alpha / rank. Default 32.
    pub alpha: f64,
    /// Dropout probability of an adapter's inputs in training, in [0, 1). Default 0.
    pub dropout: f64,
    /// rsLoRA: scale by alpha / sqrt(rank) instead (arXiv 2312.03732). Default false.
    pub rslora: bool,
    /// Target modules: names of linear layers (`["q_proj", "v_proj"]`), or `"all-linear"`. Default `"all-linear"`.
    pub targets: Targets,
    /// Seed of the initial values, to hold them fixed over runs of different seeds. Dropout always follows the run's
    /// seed, iteration and step. Default: the run's `seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Target modules of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Targets {
    /// Every linear layer of the trained parts except the output layer (`lm_head`), as in PEFT.
    All(AllLinear),
    /// Linear layers whose dotted path ends with one of these names.
    Names(Vec<String>),
}

/// Module of the output layer.
const OUTPUT_LAYER: &str = "language_model.lm_head";

/// Keyword `all-linear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllLinear {
    /// Written `all-linear`.
    #[serde(rename = "all-linear")]
    AllLinear,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            rslora: false,
            targets: Targets::All(AllLinear::AllLinear),
            seed: None,
        }
    }
}

impl LoraConfig {
    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// The setting that is out of range, with its key.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !(1..=65_536).contains(&self.rank) {
            return Err(format!("training.lora.rank is {}; it must be from 1 to 65536", self.rank));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(format!("training.lora.alpha is {}; it must be above 0", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("training.lora.dropout is {}; it must be in [0, 1)", self.dropout));
        }
        if self.targets == Targets::Names(Vec::new()) {
            return Err("training.lora.targets is empty; name layers, or `all-linear`".to_owned());
        }
        Ok(())
    }
}

impl Targets {
    /// Returns whether a module's dotted path matches, by PEFT's rule for lists of names.
    fn matches(&self, module: &str) -> bool {
        match self {
            Self::All(_) => module != OUTPUT_LAYER,
            Self::Names(names) => names.iter().any(|name| {
                module == name || module.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_at_the_end_of_a_path() {
        let names = Targets::Names(vec!["q_proj".to_owned(), "mlp.fc1".to_owned()]);
        for (module, meant) in [
            ("a.q_proj", true),
            ("q_proj", true),
            ("a.xq_proj", false),
            ("a.mlp.fc1", true),
            ("a.fc1", false),
        ] {
            assert_eq!(names.matches(module), meant, "{module}");
        }
    }

    #[test]
    fn all_linear_layers_are_all_but_the_output_layer() {
        let all = LoraConfig::default().targets;
        assert!(all.matches("language_model.model.layers.0.mlp.up_proj") && !all.matches(OUTPUT_LAYER));
        assert!(Targets::Names(vec!["lm_head".to_owned()]).matches(OUTPUT_LAYER));
    }

    #[test]
    fn a_config_is_read_with_a_list_or_the_word() {
        let read = |text: &str| serde_json::from_str::<LoraConfig>(text);
        assert_eq!(read(r#"{"targets": "all-linear"}"#).unwrap(), LoraConfig::default());
        let named = read(r#"{"rank": 4, "targets": ["q_proj"]}"#).unwrap();
        assert_eq!((named.rank, named.targets), (4, Targets::Names(vec!["q_proj".to_owned()])));
        assert!(read(r#"{"targets": "all"}"#).is_err());
        assert!(LoraConfig { rank: 0, ..LoraConfig::default() }.validate().is_err());
        assert!(LoraConfig { rank: i64::MAX, ..LoraConfig::default() }.validate().is_err());
        assert!(LoraConfig { dropout: 1.0, ..LoraConfig::default() }.validate().is_err());
    }
}
