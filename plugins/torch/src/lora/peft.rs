//! Format of PEFT's adapter folders: `adapter_config.json` and `adapter_model.safetensors` (peft 0.21).

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::LoraConfig;
use crate::error::{Result, TorchError};
use crate::hub;

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const TENSORS: &str = "adapter_model.safetensors";

/// Prefix that `PeftModel` adds to a model's own names.
const PREFIX: &str = "base_model.model.";

/// Settings that are read, or that do not change what an adapter computes.
const KNOWN: [&str; 22] = [
    "peft_type",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "base_model_name_or_path",
    "auto_mapping",
    "inference_mode",
    "peft_version",
    "revision",
    "task_type",
    // The modules are those of the weight file.
    "target_modules",
    "exclude_modules",
    "layers_pattern",
    "layers_to_transform",
    // Of an initialisation that leaves the base alone: it is over once the adapter is saved.
    "eva_config",
    // Without effect unless another setting turns on what they belong to.
    "megatron_core",
    "qalora_group_size",
];

/// Settings that are supported with these values only, and with null, false and empty values like every other.
const PLAIN: [(&str, &[&str]); 2] = [
    ("bias", &["none"]),
    // Other initialisations (PiSSA, OLoRA, LoftQ, ...) change the base's weights as well.
    ("init_lora_weights", &["true", "gaussian", "eva", "orthogonal"]),
];

/// Returns whether a folder holds an adapter.
pub(crate) fn is_adapter(folder: &Path) -> bool {
    folder.join(CONFIG).exists()
}

/// Reads `adapter_config.json`: its content, and the settings that determine the computation.
///
/// # Errors
/// A missing or invalid file, or an unsupported kind of adapter or setting.
pub(super) fn read_config(folder: &Path) -> Result<(Value, LoraConfig)> {
    let path = folder.join(CONFIG);
    let refuse = |reason: String| TorchError::checkpoint(&path, reason);
    let text = std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?;
    let source: Value =
        serde_json::from_str(&text).map_err(|error| refuse(format!("is not JSON: {error}")))?;
    let kind = source["peft_type"].as_str().unwrap_or("nothing");
    if kind != "LORA" {
        return Err(refuse(format!("has peft_type {kind}; LORA is supported")));
    }
    if let Some((key, value)) =
        source.as_object().into_iter().flatten().find(|(key, value)| changes(key, value))
    {
        let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let said: String = said.chars().take(100).collect();
        return Err(refuse(format!("has {key} {said}, which is not supported")));
    }
    // Sorted by their patterns, as PEFT writes and reads them.
    let config = LoraConfig {
        rank: source["r"].as_i64().ok_or_else(|| refuse("has no rank `r`".to_owned()))?,
        alpha: source["lora_alpha"].as_f64().ok_or_else(|| refuse("has no `lora_alpha`".to_owned()))?,
        dropout: source["lora_dropout"].as_f64().unwrap_or(0.0),
        rslora: source["use_rslora"].as_bool().unwrap_or(false),
        dora: source["use_dora"].as_bool().unwrap_or(false),
        rank_pattern: setting(&source, "rank_pattern").map_err(refuse)?,
        alpha_pattern: setting(&source, "alpha_pattern").map_err(refuse)?,
        modules_to_save: setting(&source, "modules_to_save").map_err(refuse)?,
        ..LoraConfig::default()
    };
    config.validate().map_err(|reason| refuse(reason.replace("training.lora.", "")))?;
    Ok((source, config))
}

/// Reads a setting that may be null or missing.
fn setting<T: DeserializeOwned + Default>(source: &Value, key: &str) -> Result<T, String> {
    let value: Option<T> =
        serde_json::from_value(source[key].clone()).map_err(|error| format!("has {key}: {error}"))?;
    Ok(value.unwrap_or_default())
}

/// Returns whether a setting, known or not, may change what the adapter computes in a way that is not supported. Kinds of
/// LoRA that are newer than this crate are settings with a value.
fn changes(key: &str, value: &Value) -> bool {
    let neutral = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let plain = PLAIN
        .iter()
        .find(|(name, _)| *name == key)
        .is_some_and(|(_, plain)| plain.contains(&said.as_str()));
    !neutral && !plain && !KNOWN.contains(&key)
}

/// Resolves the base that an adapter names: a folder relative to the current directory or to the adapter, or a hub
/// name.
///
/// # Errors
/// An adapter that names no base, or one that cannot be resolved.
pub(crate) fn base_of(folder: &Path) -> Result<PathBuf> {
    let (source, _) = read_config(folder)?;
    let path = folder.join(CONFIG);
    let Some(name) = source["base_model_name_or_path"].as_str().filter(|name| !name.is_empty()) else {
        return Err(TorchError::checkpoint(path, "names no base model (base_model_name_or_path)"));
    };
    let places = [PathBuf::from(name), folder.join(name)];
    let found = places.into_iter().find(|place| place.join("config.json").exists());
    if let Some(found) = found {
        return Ok(found);
    }
    hub::resolve(name).map_err(|error| {
        let reason = format!(
            "names the base model {name}: {error}; let policy.model be the base and policy.adapter this folder"
        );
        TorchError::checkpoint(path, reason)
    })
}

/// Returns `adapter_config.json` of a new adapter on the modules `adapted`, with full copies of `saved`, named as in the
/// reference implementation.
pub(super) fn new_config(config: &LoraConfig, base: &Path, adapted: &[String], saved: &[String]) -> Value {
    let alphas: Map<String, Value> =
        config.alpha_pattern.iter().map(|(pattern, value)| (pattern.clone(), alpha(*value))).collect();
    json!({
        "alpha_pattern": alphas,
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": alpha(config.alpha),
        "lora_dropout": config.dropout,
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
        "peft_type": "LORA",
        "r": config.rank,
        "rank_pattern": config.rank_pattern,
        "revision": null,
        "target_modules": adapted,
        "task_type": null,
        "use_dora": config.dora,
        "use_rslora": config.rslora,
    })
}

/// Writes an alpha, which PEFT declares as an integer, as one where it is one.
fn alpha(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
}

/// Part of the adapter of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    A,
    B,
    Magnitude,
}

/// Ends of the names of parts. PEFT has written magnitudes with and without `.weight`.
const PARTS: [(&str, Part); 4] = [
    (".lora_A.weight", Part::A),
    (".lora_B.weight", Part::B),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_magnitude_vector.weight", Part::Magnitude),
];

/// Parses a tensor name of an adapter file to the module's name and the part.
pub(super) fn parse_name(name: &str) -> Option<(&str, Part)> {
    let path = path_of(name)?;
    PARTS.iter().find_map(|(end, part)| Some((path.strip_suffix(end)?, *part)))
}

/// Parses the name of a base weight in an adapter file, `lm_head.base_layer.weight` or `lm_head.weight`, to its module's.
pub(super) fn parse_copy(name: &str) -> Option<&str> {
    let module = path_of(name)?.strip_suffix(".weight")?;
    Some(module.strip_suffix(".base_layer").unwrap_or(module))
}

/// Returns the path in the model of a tensor of an adapter file.
pub(super) fn path_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// Returns the name in an adapter file of the weight of a saved module, by its path in the model.
pub(super) fn copy_name(path: &str) -> String {
    format!("{PREFIX}{path}")
}

/// Returns the tensor name of a module's part in an adapter file.
pub(super) fn tensor_name(module: &str, part: Part) -> String {
    format!("{PREFIX}{}", part_name(module, part))
}

/// Returns the tensor name of a module's part.
pub(super) fn part_name(module: &str, part: Part) -> String {
    let end = PARTS.iter().find(|(_, of)| *of == part).map_or("", |(end, _)| end);
    format!("{module}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut config =
            new_config(&LoraConfig::default(), Path::new("base"), &["model.a".to_owned()], &[]);
        change(&mut config);
        std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        folder
    }

    #[test]
    fn what_is_written_is_read() {
        let given = LoraConfig {
            rank: 4,
            alpha: 8.0,
            rslora: true,
            dropout: 0.1,
            dora: true,
            rank_pattern: [("q_proj".to_owned(), 2)].into(),
            alpha_pattern: [(r"\d\.v_proj".to_owned(), 0.5)].into(),
            modules_to_save: vec!["lm_head".to_owned()],
            ..LoraConfig::default()
        };
        let saved = ["lm_head".to_owned()];
        let folder = written(|config| *config = new_config(&given, Path::new("b"), &[], &saved));
        assert_eq!(read_config(folder.path()).unwrap().1, given);
    }

    #[test]
    fn other_kinds_of_adapters_are_refused_by_name() {
        let cases = [
            ("peft_type", json!("LOHA")),
            ("bias", json!("all")),
            ("ensure_weight_tying", json!(true)),
            ("trainable_token_indices", json!([1, 2])),
            ("lora_bias", json!(true)),
            ("init_lora_weights", json!("pissa")),
            ("loftq_config", json!({ "loftq_bits": 4 })),
            ("lora_ga_config", json!({ "bsz": 2 })),
            ("monteclora_config", json!({ "use_entropy": false })),
            ("of_a_later_version", json!(true)),
        ];
        for (key, value) in cases {
            let folder = written(|config| config[key] = value);
            let error = read_config(folder.path()).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("support"), "{error}");
        }
    }

    #[test]
    fn patterns_that_cannot_be_followed_are_named() {
        for (key, value) in [
            ("rank_pattern", json!({ "q_proj": "x" })),
            ("rank_pattern", json!({ "(?=q)q_proj": 8 })),
            ("alpha_pattern", json!([4])),
            ("modules_to_save", json!("lm_head")),
        ] {
            let error = read_config(written(|config| config[key] = value).path()).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn settings_without_a_value_are_those_of_plain_lora() {
        for value in [json!(null), json!(false), json!([]), json!({}), json!("")] {
            assert!(read_config(written(|config| config["of_a_later_version"] = value).path()).is_ok());
        }
        let of_peft = written(|config| {
            config["megatron_core"] = json!("megatron.core");
            config["qalora_group_size"] = json!(16);
            config["peft_version"] = json!("0.21.2");
            config["auto_mapping"] = json!({ "base_model_class": "LlavaForConditionalGeneration" });
        });
        assert!(read_config(of_peft.path()).is_ok());
    }

    #[test]
    fn a_base_is_looked_for_beside_the_adapter_and_its_absence_told() {
        let folder = written(|config| config["base_model_name_or_path"] = json!("../other"));
        let error = base_of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("../other") && error.contains("policy.adapter"), "{error}");
        let folder = written(|config| config["base_model_name_or_path"] = json!("inside"));
        let base = folder.path().join("inside");
        std::fs::create_dir(&base).unwrap();
        std::fs::write(base.join("config.json"), "{}").unwrap();
        assert_eq!(base_of(folder.path()).unwrap(), base);
    }

    #[test]
    fn names_are_pefts() {
        let name = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_B.weight";
        let (module, part) = parse_name(name).unwrap();
        assert_eq!((module, part), ("model.language_model.layers.0.self_attn.q_proj", Part::B));
        assert_eq!(tensor_name(module, part), name);
        let name = "base_model.model.m.q_proj.lora_magnitude_vector";
        assert_eq!(parse_name(name), Some(("m.q_proj", Part::Magnitude)));
        assert_eq!(parse_name(&format!("{name}.weight")), Some(("m.q_proj", Part::Magnitude)));
        assert_eq!(tensor_name("m.q_proj", Part::Magnitude), name);
        assert!(parse_name("base_model.model.x.lora_embedding_A").is_none());
        assert_eq!(parse_copy("base_model.model.lm_head.base_layer.weight"), Some("lm_head"));
        assert_eq!(parse_copy("base_model.model.lm_head.weight"), Some("lm_head"));
    }
}
