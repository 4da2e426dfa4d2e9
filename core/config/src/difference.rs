//! The first difference between two configs.

use serde_json::{Map, Value};

/// Returns the first key that differs with both values, `` `train.epochs` was 1, is 2 ``; `None` if the configs
/// are equal.
///
/// Ignores the key paths in `ignore` with everything below them, and the order of keys. A null equals an absent
/// key.
pub fn difference(old: &Value, new: &Value, ignore: &[&str]) -> Option<String> {
    differs("", old, new, ignore)
}

fn differs(path: &str, old: &Value, new: &Value, ignore: &[&str]) -> Option<String> {
    if ignore.contains(&path) || old == new {
        return None;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => return objects_differ(path, old, new, ignore),
        // An added or removed section is reported by its first key.
        (Value::Null, Value::Object(new)) if !new.is_empty() => {
            return objects_differ(path, &Map::new(), new, ignore);
        }
        (Value::Object(old), Value::Null) if !old.is_empty() => {
            return objects_differ(path, old, &Map::new(), ignore);
        }
        _ => {}
    }
    Some(format!("`{path}` {}, {}", was(old), is(new)))
}

fn objects_differ(
    path: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    ignore: &[&str],
) -> Option<String> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    old.keys().chain(added).find_map(|key| {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        differs(&path, &value(old), &value(new), ignore)
    })
}

fn was(value: &Value) -> String {
    if value.is_null() { "was not set".to_owned() } else { format!("was {value}") }
}

fn is(value: &Value) -> String {
    if value.is_null() { "is not set".to_owned() } else { format!("is {value}") }
}
