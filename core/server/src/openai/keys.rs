//! Request keys that clients send by habit, and values of them that change nothing.
//!
//! Clients send null, an empty list or a default where they mean nothing by it. Such keys are accepted; any other key that
//! this server does not have is an error, since a completion without it would be another one than was asked for.

use serde_json::Value;

/// Whether a value says nothing: null or empty.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Keys of a request that have no influence on a completion of this server.
const WITHOUT_INFLUENCE: [&str; 15] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    // Models served here do not reason by levels, and write as long as they like.
    "reasoning_effort",
    "verbosity",
    // They matter where there are tools.
    "parallel_tool_calls",
    "tool_choice",
    "function_call",
    "request_id",
    "priority",
    "cache_salt",
];

/// Keys that are true by default.
const TRUE_BY_DEFAULT: [&str; 5] = [
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "clean_up_tokenization_spaces",
    "add_generation_prompt",
    "do_sample",
];

/// Switch of models that think before they answer or do not, in a request or among the variables of its template.
const THINKING: &str = "enable_thinking";

/// Whether a request without `key` would get the same completions. `n` is the number of completions.
pub(crate) fn of_request(key: &str, value: &Value, n: usize) -> bool {
    let number = value.as_f64();
    match key {
        _ if TRUE_BY_DEFAULT.contains(&key) => value == true,
        _ if value == false || key == THINKING && value == true => true,
        _ if WITHOUT_INFLUENCE.contains(&key) => true,
        "frequency_penalty"
        | "presence_penalty"
        | "top_logprobs"
        | "min_p"
        | "min_tokens"
        | "prompt_logprobs"
        | "no_repeat_ngram_size" => number == Some(0.0),
        "repetition_penalty" | "length_penalty" | "typical_p" => number == Some(1.0),
        "best_of" => number == Some(n as f64) || number == Some(1.0),
        "logit_bias" => {
            value.as_object().is_some_and(|map| map.values().all(|bias| bias.as_f64() == Some(0.0)))
        }
        "response_format" => value.get("type").and_then(Value::as_str) == Some("text"),
        "modalities" => value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "text")),
        _ => false,
    }
}

/// Whether a chat template writes the same without a variable. No template of the families served here reads
/// [`THINKING`]; other servers leave it to templates likewise.
pub(crate) fn of_template(key: &str, value: &Value) -> bool {
    value.is_boolean() && (key == THINKING || (value == true) == TRUE_BY_DEFAULT.contains(&key))
}

/// Whether a key of `stream_options` changes nothing in the text that is streamed.
pub(crate) fn of_stream_options(key: &str, value: &Value) -> bool {
    key == "include_obfuscation" || value == false
}

/// Whether a message without `key` says the same. `reasoning` and `reasoning_content` are of other servers' answers, and
/// templates leave thoughts of former turns out.
pub(crate) fn of_message(key: &str) -> bool {
    matches!(key, "name" | "id" | "reasoning" | "reasoning_content")
}

/// Whether a content part without `key` says the same: identities for caches, and marks of them.
pub(crate) fn of_part(key: &str) -> bool {
    matches!(key, "id" | "uuid" | "cache_control")
}

/// Whether an image or video without `key` is the same: a reader's config sets the resolution, and a file says its format.
pub(crate) fn of_medium(key: &str) -> bool {
    matches!(key, "detail" | "format" | "mime_type" | "uuid")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_neutral_value_is_known_and_another_is_not() {
        for (key, neutral, other) in [
            ("repetition_penalty", json!(1), json!(1.1)),
            ("frequency_penalty", json!(0), json!(0.5)),
            ("min_p", json!(0.0), json!(0.1)),
            ("best_of", json!(3), json!(5)),
            ("skip_special_tokens", json!(true), json!(false)),
            ("ignore_eos", json!(false), json!(true)),
            ("logit_bias", json!({ "5": 0 }), json!({ "5": -100 })),
            ("response_format", json!({ "type": "text" }), json!({ "type": "json_object" })),
            ("modalities", json!(["text"]), json!(["text", "audio"])),
        ] {
            assert!(of_request(key, &neutral, 3), "{key}: {neutral}");
            assert!(!of_request(key, &other, 3), "{key}: {other}");
        }
        for value in [json!(true), json!(false)] {
            assert!(of_template("enable_thinking", &value) && of_request("enable_thinking", &value, 1));
        }
        assert!(of_template("add_generation_prompt", &json!(true)));
        assert!(
            !of_template("add_generation_prompt", &json!(false)) && !of_template("tools", &json!(true))
        );
        assert!(!of_template("thinking_budget", &json!(0)));
        assert!(of_request("user", &json!("ann"), 1));
        assert!(!of_request("tools", &json!([{}]), 1) && !of_request("guided_json", &json!("x"), 1));
    }
}
