//! Output of configs as TOML and of their JSON schema.

use isr_api::Error;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{RunConfig, Validate};
use crate::plugin;

/// Writes a config as TOML, which loads to the same config.
///
/// # Errors
/// [`Error::Config`] where TOML has no form for a value (an integer above 2^63 - 1, a null in a list).
pub fn to_toml<T: Serialize>(config: &T) -> Result<String, Error> {
    let unwritable =
        |reason: String| Error::Config(format!("the config cannot be written as TOML: {reason}"));
    let value = serde_json::to_value(config).map_err(|error| unwritable(error.to_string()))?;
    toml::to_string_pretty(&without_nulls(plugin::untag(value)))
        .map_err(|error| unwritable(error.to_string()))
}

/// Drops nulls, which TOML lacks; an absent key has the same meaning.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key, without_nulls(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect::<Vec<_>>().into(),
        other => other,
    }
}

/// Returns the JSON schema (draft 2020-12) of a run's config file with every registered component, for editors.
pub fn schema() -> Schema {
    file_schema::<RunConfig>()
}

/// Returns the JSON schema of a file that [`Loader`](super::Loader) loads as `T`: the schema of `T` with the key
/// `extends`. In a file that extends another one, no section is required. A section may hold some of its keys and leave out
/// its `type`, as the file below has the others, so the schema requires no key of a section; loading does.
pub fn file_schema<T: Validate>() -> Schema {
    let mut schema = schema_of::<T>();
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("extends".to_owned(), extends_schema());
    }
    if let Some(required) = schema.remove("required") {
        schema.insert("if".to_owned(), json!({ "not": { "required": ["extends"] } }));
        schema.insert("then".to_owned(), json!({ "required": required }));
    }
    for part in ["properties", "$defs"] {
        schema.get_mut(part).into_iter().for_each(allow_parts);
    }
    schema
}

/// Makes a schema accept a part of what it accepted: no key is required, and several variants may fit.
fn allow_parts(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            // Properties of these names hold schemas, not lists.
            if map.get("required").is_some_and(Value::is_array) {
                map.shift_remove("required");
            }
            if map.get("oneOf").is_some_and(Value::is_array)
                && let Some(variants) = map.shift_remove("oneOf")
            {
                map.insert("anyOf".to_owned(), variants);
            }
            map.values_mut().for_each(allow_parts);
        }
        Value::Array(items) => items.iter_mut().for_each(allow_parts),
        _ => {}
    }
}

/// The schema of a merged config.
pub(super) fn schema_of<T: Validate>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}

fn extends_schema() -> Value {
    json!({
        "description": "Config file or files, relative to this one, whose settings hold where this file \
                        says nothing else. Of several, the later wins.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    })
}
