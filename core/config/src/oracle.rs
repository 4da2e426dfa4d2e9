//! Oracles: judges that read ground truth.

use serde_json::Value;

use crate::registry::JudgeConfig;

/// Config key that marks an oracle.
const KEY: &str = "oracle";

/// Returns whether a judge, or a judge nested in it, reads ground truth: whether its section, the table with `type`,
/// has a key `oracle` that is true. Other tables may have such a key for another purpose, such as a field of a request.
///
/// A judge that reads reference answers or facts must have that key, and must refuse to be built unless it is
/// true. Results of an oracle are an upper bound for judges without ground truth, so every record of its verdicts
/// carries `"oracle": true`.
pub fn is_oracle(judge: &dyn JudgeConfig) -> bool {
    serde_json::to_value(judge).is_ok_and(|settings| has_true_key(&settings))
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
