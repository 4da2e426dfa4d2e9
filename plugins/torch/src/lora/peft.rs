//! Format of PEFT's adapter folders: `adapter_config.json` and `adapter_model.safetensors` (peft 0.21).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::LoraConfig;
use crate::error::{Result, TorchError};
use crate::hub;

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const TENSORS: &str = "adapter_model.safetensors";

/// Prefix that `PeftModel` adds to a model's own names.
const PREFIX: &str = "base_model.model.";

/// Settings that are read, or that do not change what an adapter computes.
const KNOWN: [&str; 18] = [
    "peft_type",
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
    let config = LoraConfig {
        rank: source["r"].as_i64().ok_or_else(|| refuse("has no rank `r`".to_owned()))?,
        alpha: source["lora_alpha"].as_f64().ok_or_else(|| refuse("has no `lora_alpha`".to_owned()))?,
        dropout: source["lora_dropout"].as_f64().unwrap_or(0.0),
        rslora: source["use_rslora"].as_bool().unwrap_or(false),
        ..LoraConfig::default()
    };
    config.validate().map_err(|reason| refuse(reason.replace("training.lora.", "")))?;
    Ok((source, config))
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

/// Returns `adapter_config.json` of a new adapter on `modules`, named as in the reference implementation.
pub(super) fn new_config(config: &LoraConfig, base: &Path, modules: &[String]) -> Value {
    // PEFT declares alpha as an integer.
    let alpha = match config.alpha.fract() == 0.0 {
        true => json!(config.alpha as i64),
        false => json!(config.alpha),
    };
    json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": alpha,
        "lora_dropout": config.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": modules,
        "task_type": null,
        "use_dora": false,
        "use_rslora": config.rslora,
    })
}

/// Half of a matrix pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    A,
    B,
}

/// Parses a tensor name of an adapter file to the module's name and the half.
pub(super) fn parse_name(name: &str) -> Option<(&str, Half)> {
    let name = name.strip_prefix(PREFIX)?;
    let (module, half) = name.rsplit_once(".lora_")?;
    match half {
        "A.weight" => Some((module, Half::A)),
        "B.weight" => Some((module, Half::B)),
        _ => None,
    }
}

/// Parses the name of a base weight in an adapter file, `lm_head.base_layer.weight` or `lm_head.weight`, to its module's.
pub(super) fn parse_copy(name: &str) -> Option<&str> {
    let module = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    Some(module.strip_suffix(".base_layer").unwrap_or(module))
}

/// Returns the tensor name of a module's half in an adapter file.
pub(super) fn tensor_name(module: &str, half: Half) -> String {
    let half = if half == Half::A { "A" } else { "B" };
    format!("{PREFIX}{module}.lora_{half}.weight")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut config = new_config(&LoraConfig::default(), Path::new("base"), &["model.a".to_owned()]);
        change(&mut config);
        std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        folder
    }

    #[test]
    fn what_is_written_is_read() {
        let given = LoraConfig { rank: 4, alpha: 8.0, rslora: true, dropout: 0.1, ..LoraConfig::default() };
        let folder = written(|config| *config = new_config(&given, Path::new("b"), &[]));
        assert_eq!(read_config(folder.path()).unwrap().1, given);
    }

    #[test]
    fn other_kinds_of_adapters_are_refused_by_name() {
        let cases = [
            ("peft_type", json!("LOHA")),
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("rank_pattern", json!({ "q_proj": 8 })),
            ("modules_to_save", json!(["lm_head"])),
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
        let (module, half) = parse_name(name).unwrap();
        assert_eq!((module, half), ("model.language_model.layers.0.self_attn.q_proj", Half::B));
        assert_eq!(tensor_name(module, half), name);
        assert!(parse_name("base_model.model.x.lora_embedding_A").is_none());
        assert_eq!(parse_copy("base_model.model.lm_head.base_layer.weight"), Some("lm_head"));
        assert_eq!(parse_copy("base_model.model.lm_head.weight"), Some("lm_head"));
    }
}
