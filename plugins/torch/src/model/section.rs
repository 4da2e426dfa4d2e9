//! Sections of `config.json`.

use serde_json::Value;

/// Merges a config section into the defaults of transformers; null entries count as absent.
pub(crate) fn with_defaults(section: &Value, defaults: Value) -> Value {
    let mut merged = defaults;
    if let (Value::Object(into), Value::Object(given)) = (&mut merged, section) {
        into.extend(
            given.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    merged
}
