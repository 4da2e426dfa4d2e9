//! Judges that know what is true.

use serde_json::Value;

use crate::registry::JudgeConfig;

/// The key by which a judge's config says that the judge knows what is true.
const KEY: &str = "oracle";

/// Whether a judge, or one that it is made of, knows what is true: whether a key `oracle` of its config is
/// true, at whatever depth.
///
/// A judge that reads reference answers or facts has to have that key, and to refuse to be built unless it is
/// true. It bounds what judges can do, and nothing that was trained on its verdicts may be taken for more: so
/// each record of them says `"oracle": true`.
pub fn is_oracle(judge: &dyn JudgeConfig) -> bool {
    serde_json::to_value(judge).is_ok_and(|settings| has_true_key(&settings))
}

fn has_true_key(settings: &Value) -> bool {
    match settings {
        Value::Object(map) => map.get(KEY) == Some(&Value::Bool(true)) || map.values().any(has_true_key),
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
        let others =
            [json!({ "type": "self", "prompt": "oracle" }), json!({ "oracle": false }), Value::Null];
        assert!(!others.iter().any(has_true_key));
    }
}
