//! Former names of keys and components, accepted for one version, and former defaults.
//!
//! Each layer of a config, and the `config.toml` of a run directory, is brought to today's names before anything
//! else looks at it. A former name is logged as a warning that says the new one.

use config::{Map, Value, ValueKind};
use serde_json::Value as Json;

/// Keys: path of the table, former name, name.
const KEYS: [(&str, &str, &str); 3] = [
    ("loop", "in_flight", "concurrency"),
    ("evaluation", "interim_samples", "intermediate_samples"),
    ("policy.training", "glance", "skip_decoder"),
];

/// Components: section, former `type`, `type`.
const COMPONENTS: [(&str, &str, &str); 2] =
    [("policy", "llava", "torch"), ("encoder", "clip", "vision_tower")];

/// Defaults that were written into the `config.toml` of a run, of keys that are left out at today's: table, key, value.
const DEFAULTS: [(&str, &str, Scalar); 4] = [
    ("policy", "precision", Scalar::Text("float32")),
    ("policy", "batch", Scalar::Number(16)),
    ("policy", "prefix_cache_mb", Scalar::Number(2048)),
    ("encoder", "precision", Scalar::Text("float32")),
];

enum Scalar {
    Text(&'static str),
    Number(u64),
}

/// Today's form of a dotted key, as `-s` and environment variables have them.
pub(super) fn key(path: &str) -> Option<String> {
    let (_, _, new) = KEYS.iter().find(|(table, old, _)| path == format!("{table}.{old}"))?;
    let (table, old) = path.rsplit_once('.')?;
    warn(&format!("key `{table}.{old}`"), &format!("`{table}.{new}`"));
    Some(format!("{table}.{new}"))
}

/// Brings one value at its key path, as a layer has it, to today's names.
pub(super) fn value(path: &str, value: &mut Value) {
    for (section, old, new) in COMPONENTS {
        let kind = match &mut value.kind {
            ValueKind::Table(table) if path == section => table.get_mut("type").map(|it| &mut it.kind),
            kind if path == format!("{section}.type") => Some(kind),
            _ => None,
        };
        if let Some(ValueKind::String(name)) = kind
            && name == old
        {
            warn(&format!("{section} `{old}`"), &format!("`{new}`"));
            *name = new.to_owned();
        }
    }
    for (table, old, new) in KEYS {
        if let Some(entries) = inner(value, path, table)
            && let Some(entry) = entries.remove(old)
        {
            warn(&format!("key `{table}.{old}`"), &format!("`{table}.{new}`"));
            entries.entry(new.to_owned()).or_insert(entry);
        }
    }
}

/// The table `wanted` within the value at `path`.
fn inner<'v>(value: &'v mut Value, path: &str, wanted: &str) -> Option<&'v mut Map<String, Value>> {
    let below = wanted.strip_prefix(path)?;
    let mut value = value;
    for step in below.split('.').filter(|step| !step.is_empty()) {
        let ValueKind::Table(entries) = &mut value.kind else { return None };
        value = entries.get_mut(step)?;
    }
    match &mut value.kind {
        ValueKind::Table(entries) => Some(entries),
        _ => None,
    }
}

/// Brings the resolved config of an older run to today's names, without a warning.
pub fn with_current_names(mut config: Json) -> Json {
    for (table, old, new) in KEYS {
        let pointer = format!("/{}", table.replace('.', "/"));
        if let Some(entries) = config.pointer_mut(&pointer).and_then(Json::as_object_mut)
            && let Some(entry) = entries.remove(old)
        {
            entries.entry(new).or_insert(entry);
        }
    }
    for (section, old, new) in COMPONENTS {
        if let Some(name) = config.get_mut(section).and_then(|section| section.get_mut("type"))
            && name == old
        {
            *name = new.into();
        }
    }
    config
}

/// Removes keys that have a former default, for the comparison with the config of an older run. Where that is not today's
/// (on a GPU), the fingerprints of the run tell.
pub fn without_former_defaults(mut config: Json) -> Json {
    for (table, key, value) in DEFAULTS {
        let value = match value {
            Scalar::Text(text) => Json::from(text),
            Scalar::Number(number) => Json::from(number),
        };
        if let Some(entries) = config.get_mut(table).and_then(Json::as_object_mut)
            && entries.get(key) == Some(&value)
        {
            entries.remove(key);
        }
    }
    config
}

fn warn(old: &str, new: &str) {
    tracing::warn!("{old} is now called {new}; the former name will be refused by the next version");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_config_of_an_older_run_gets_the_names_of_today() {
        let old = json!({
            "policy": { "type": "llava", "model": "m", "training": { "glance": true } },
            "encoder": { "type": "clip" },
            "loop": { "in_flight": 4 },
            "evaluation": { "interim_samples": 7 },
            "judge": { "type": "clip" },
        });
        let new = json!({
            "policy": { "type": "torch", "model": "m", "training": { "skip_decoder": true } },
            "encoder": { "type": "vision_tower" },
            "loop": { "concurrency": 4 },
            "evaluation": { "intermediate_samples": 7 },
            "judge": { "type": "clip" },
        });
        assert_eq!(with_current_names(old), new);
        let written = json!({ "policy": { "batch": 16, "precision": "bfloat16" }, "encoder": { "precision": "float32" } });
        let left = json!({ "policy": { "precision": "bfloat16" }, "encoder": {} });
        assert_eq!(without_former_defaults(written), left);
        assert_eq!(with_current_names(new.clone()), new);
    }
}
