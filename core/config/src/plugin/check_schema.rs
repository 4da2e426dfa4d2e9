//! Validation of a plugin's schema before it is used to check a config.

use std::collections::BTreeSet;

use serde_json::Value;

/// Maximum nesting. A malicious schema could otherwise exhaust the stack.
const DEEPEST: usize = 64;

/// Checks that the schema describes a table and that its references resolve without cycles.
pub(super) fn check(root: &Value) -> Result<(), String> {
    let Some(object) = root.as_object() else {
        return Err("is not an object".to_owned());
    };
    if object.get("type").and_then(Value::as_str) != Some("object") {
        return Err("does not describe a table: its `type` must be \"object\"".to_owned());
    }
    if object.get("properties").and_then(|all| all.get("type")).is_some() {
        return Err("has a property `type`, which names the component; call it something else".to_owned());
    }
    walk(root, root, 0)
}

fn walk(root: &Value, schema: &Value, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("is nested more than {DEEPEST} deep"));
    }
    match schema {
        Value::Object(object) => {
            settles(root, schema, &mut BTreeSet::new())?;
            object.values().try_for_each(|value| walk(root, value, depth + 1))
        }
        Value::Array(items) => items.iter().try_for_each(|item| walk(root, item, depth + 1)),
        _ => Ok(()),
    }
}

/// Checks that following references and alternatives from a schema terminates.
fn settles<'s>(root: &'s Value, schema: &'s Value, above: &mut BTreeSet<&'s str>) -> Result<(), String> {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let found = target.strip_prefix('#').filter(|it| it.starts_with("/$defs/"));
        let Some(next) = found.and_then(|pointer| root.pointer(pointer)) else {
            return Err(format!("refers to `{target}`, which it does not define under `$defs`"));
        };
        if !above.insert(target) {
            return Err(format!("has a definition that refers to itself: `{target}`"));
        }
        settles(root, next, above)?;
        above.remove(target);
    }
    let choices = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    choices.into_iter().flatten().try_for_each(|choice| settles(root, choice, above))
}
