//! Settings of LoRA training.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns::{Choice, Scaling};

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
    /// DoRA: train each adapted weight's row norms as well, apart from its directions (arXiv 2402.09353). Default
    /// false.
    #[serde(skip_serializing_if = "is_false")]
    pub dora: bool,
    /// Ranks of modules that differ from `rank`, by regular expressions for the ends of module paths:
    /// `{ "mlp.down_proj" = 32 }`. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rank_pattern: BTreeMap<String, i64>,
    /// Alphas of modules that differ from `alpha`, as `rank_pattern`. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Target modules: names of linear layers (`["q_proj", "v_proj"]`), a regular expression for whole module paths
    /// (`".*language_model.*\\.(q_proj|v_proj)"`), or `"all-linear"`. Default `"all-linear"`.
    pub targets: Targets,
    /// Modules that are not adapted although `targets` names them: names, or a regular expression. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Modules>,
    /// Indices of the layers whose modules are adapted. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<i64>,
    /// Modules that are trained in full and saved with the adapter: ends of module paths (`["lm_head",
    /// "embed_tokens"]`). Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules_to_save: Vec<String>,
    /// Seed of the initial values, to hold them fixed over runs of different seeds. Dropout always follows the run's
    /// seed, iteration and step. Default: the run's `seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Target modules of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Targets {
    /// Every linear layer of the trained parts except the output layer (`lm_head`), as in PEFT.
    All(AllLinear),
    /// Linear layers whose dotted path ends with one of these names.
    Names(Vec<String>),
    /// Linear layers whose whole dotted path a regular expression matches.
    Pattern(String),
}

/// Modules by their dotted paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Modules {
    /// Modules whose path ends with one of these names.
    Names(Vec<String>),
    /// Modules whose whole path a regular expression matches.
    Pattern(String),
}

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
            dora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            targets: Targets::All(AllLinear::AllLinear),
            exclude: None,
            layers: Vec::new(),
            modules_to_save: Vec::new(),
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
        let ranks = self.rank_pattern.values().map(|rank| ("rank_pattern", rank));
        for (key, rank) in std::iter::once(("rank", &self.rank)).chain(ranks) {
            if !(1..=65_536).contains(rank) {
                return Err(format!("training.lora.{key} is {rank}; it must be from 1 to 65536"));
            }
        }
        let alphas = self.alpha_pattern.values().map(|alpha| ("alpha_pattern", alpha));
        for (key, alpha) in std::iter::once(("alpha", &self.alpha)).chain(alphas) {
            if !(alpha.is_finite() && *alpha > 0.0) {
                return Err(format!("training.lora.{key} is {alpha}; it must be above 0"));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("training.lora.dropout is {}; it must be in [0, 1)", self.dropout));
        }
        if self.targets == Targets::Names(Vec::new()) {
            return Err("training.lora.targets is empty; name layers, or `all-linear`".to_owned());
        }
        if matches!(self.targets, Targets::Pattern(_)) && !self.layers.is_empty() {
            let text = "training.lora.layers is for targets that are names; let the regular expression in \
                        training.lora.targets choose the layers";
            return Err(text.to_owned());
        }
        if self.modules_to_save.iter().any(String::is_empty) {
            return Err("training.lora.modules_to_save has an empty name".to_owned());
        }
        Choice::new(self)?;
        Scaling::new(self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_read_with_a_list_a_regular_expression_or_the_word() {
        let read = |text: &str| serde_json::from_str::<LoraConfig>(text);
        assert_eq!(read(r#"{"targets": "all-linear"}"#).unwrap(), LoraConfig::default());
        let named = read(r#"{"rank": 4, "targets": ["q_proj"]}"#).unwrap();
        assert_eq!((named.rank, named.targets), (4, Targets::Names(vec!["q_proj".to_owned()])));
        let pattern = read(r#"{"targets": ".*q_proj"}"#).unwrap();
        assert_eq!(pattern.targets, Targets::Pattern(".*q_proj".to_owned()));
        assert!(read(r#"{"targets": 5}"#).is_err());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (text, key) in [
            (r#"{"rank": 0}"#, "training.lora.rank "),
            (r#"{"rank": 9223372036854775807}"#, "training.lora.rank "),
            (r#"{"dropout": 1.0}"#, "dropout"),
            (r#"{"rank_pattern": {"q_proj": 0}}"#, "rank_pattern"),
            (r#"{"alpha_pattern": {"q_proj": -1.0}}"#, "alpha_pattern"),
            (r#"{"alpha_pattern": {"q_proj)": 1.0}}"#, "alpha_pattern"),
            (r#"{"targets": ".*", "layers": [1]}"#, "training.lora.layers"),
            (r#"{"modules_to_save": [""]}"#, "modules_to_save"),
        ] {
            let error = serde_json::from_str::<LoraConfig>(text).unwrap().validate().unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    /// The config of a run is compared with the one that it was begun with, perhaps before a key was there.
    #[test]
    fn newer_keys_are_not_written_at_their_defaults() {
        let written = serde_json::to_value(LoraConfig::default()).unwrap();
        let keys: Vec<&String> = written.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 5, "{keys:?}");
    }
}
