//! Oracles: judges and retrospectors that read ground truth.

use serde::Serialize;
use serde_json::Value;

/// Config key that marks an oracle.
const KEY: &str = "oracle";

/// Returns whether a judge or a retrospector, or a component nested in it, reads ground truth: whether its section, the
/// table with `type`, has a key `oracle` that is true. Other tables may have such a key for another purpose, such as a
/// field of a request.
///
/// A component that reads reference answers or facts must have that key, and must refuse to be built unless it is
/// true. Results of an oracle are an upper bound for those without ground truth, so every record of verdicts that depend
/// on it carries `"oracle": true`.
pub fn is_oracle<T: Serialize + ?Sized>(component: &T) -> bool {
    serde_json::to_value(component).is_ok_and(|settings| has_true_key(&settings))
}

fn has_true_key(settings: &Value) -> bool {
    match settings {
        Value::Object(map) => {
            let is_section = map.get("type").is_some_and(Value::is_string);
            (is_section && map.get(KEY) == Some(&Value::Bool(true))) || map.values().any(has_true_key)
        }
        Value::Array(items) => items.iter().any(has_true_key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_oracle_is_found_wherever_it_is_nested() {
        let reference = json!({ "type": "reference", "oracle": true });
        for judge in [
            reference.clone(),
            json!({ "type": "both_orders", "inner": reference }),
            json!({ "type": "ensemble", "members": [{ "judge": { "type": "self" } }, { "judge": reference }] }),
        ] {
            assert!(has_true_key(&judge), "{judge}");
        }
        let others = [
            json!({ "type": "self", "prompt": "oracle" }),
            json!({ "type": "reference", "oracle": false }),
            json!({ "type": "http", "extra": { "oracle": true }, "headers": [{ "oracle": true }] }),
            Value::Null,
        ];
        assert!(!others.iter().any(has_true_key));
    }
}
