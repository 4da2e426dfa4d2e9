//! Parameters that a server names when it rejects a request.

use serde_json::{Map, Value};

/// Words of a message that is about one request's length or content, not about a parameter.
const ABOUT_THE_CASE: [&str; 6] =
    ["context length", "context window", "context_length", "too long", "input tokens", "prompt tokens"];

/// Part of a request that a model of text alone does not take.
pub(crate) const PICTURES: &str = "image_url";

/// Words of a message that rejects pictures; all are PNG, so it is the model that takes none.
const NO_PICTURES: [&str; 5] =
    ["support", "at most 0", "not multimodal", "not a multimodal", "does not accept"];

/// Words of a message that rejects a parameter.
const REJECTING: [&str; 13] = [
    "support",
    "unknown",
    "unrecogni",
    "unexpected",
    "invalid",
    "extra",
    "permitted",
    "allowed",
    "not accept",
    "deprecated",
    "must be",
    "should be",
    "only",
];

/// The key of a request body that the server's refusal names, if there is one: by OpenAI's `param`, by the `loc` of
/// FastAPI, or in the message.
pub(crate) fn named_parameter(request: &Map<String, Value>, refusal: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(refusal);
    let value: Value = serde_json::from_slice(refusal).unwrap_or_default();
    let lower = text.to_lowercase();
    let pictures =
        || request.get("messages").is_some_and(|messages| messages.to_string().contains("image_url"));
    if lower.contains("image") && NO_PICTURES.iter().any(|words| lower.contains(words)) && pictures() {
        return Some(PICTURES.to_owned());
    }
    let is_key = |name: &&str| *name != "messages" && request.contains_key(*name);
    if let Some(param) = param(&value) {
        let name = param.split(['.', '[']).next().unwrap_or_default();
        return Some(name).filter(is_key).map(str::to_owned);
    }
    let located = located(&value);
    if let Some(name) = located.iter().copied().find(is_key) {
        return Some(name.to_owned());
    }
    if ABOUT_THE_CASE.iter().any(|words| lower.contains(words)) || !located.is_empty() {
        return None;
    }
    let rejects = REJECTING.iter().any(|word| lower.contains(word));
    let named = |name: &str| {
        let words = lower.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let mut places = words.enumerate().filter(|(_, word)| *word == name.to_lowercase());
        places.next().map(|(at, _)| at)
    };
    // `model` and keys like it are in many messages; only quoted they are what the message is about.
    let quoted =
        |name: &str| ["'", "\"", "`"].iter().any(|quote| text.contains(&format!("{quote}{name}{quote}")));
    let speaks_of =
        |name: &&String| quoted(name) || (rejects && (name.contains('_') || OWN.contains(&name.as_str())));
    let keys = request.keys().filter(|name| is_key(&name.as_str())).filter(speaks_of);
    keys.filter_map(|name| Some((named(name)?, name))).min().map(|(_, name)| name.clone())
}

/// Parameters that are no ordinary words of an error message.
const OWN: [&str; 2] = ["temperature", "seed"];

/// `param` of an error in OpenAI's form.
fn param(refusal: &Value) -> Option<&str> {
    let error = refusal.get("error").filter(|error| error.is_object()).unwrap_or(refusal);
    error.get("param")?.as_str().filter(|param| !param.is_empty())
}

/// Names in the `loc`s of FastAPI's `detail`.
fn located(refusal: &Value) -> Vec<&str> {
    let details = refusal.get("detail").and_then(Value::as_array).into_iter().flatten();
    let places = details.filter_map(|detail| detail.get("loc")?.as_array()).flatten();
    places.filter_map(Value::as_str).filter(|name| *name != "body").collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use serde_json::json;

    use super::*;

    fn named(refusal: &str) -> Option<String> {
        let request = json!({
            "model": "m", "messages": [], "temperature": 0.0, "max_tokens": 32, "seed": 1, "top_k": 3, "user": "u",
        });
        named_parameter(request.as_object().unwrap(), refusal.as_bytes())
    }

    #[test]
    fn servers_name_parameters_in_many_ways() {
        for (refusal, parameter) in [
            (r#"{"error":{"message":"Unsupported value: 'temperature'"}}"#, "temperature"),
            (
                r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#,
                "temperature",
            ),
            (
                r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":null}}"#,
                "max_tokens",
            ),
            (
                r#"{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not permitted"}]}"#,
                "seed",
            ),
            (r#"{"object":"error","message":"json: unknown field \"seed\"","code":400}"#, "seed"),
            (r#"{"error":"top_k is not supported by this model"}"#, "top_k"),
            (r#"{"error":{"message":"temperature is deprecated for this model."}}"#, "temperature"),
            (
                r#"{"error":{"message":"Unrecognized request argument supplied: user","param":"user"}}"#,
                "user",
            ),
            ("Invalid parameter: seed", "seed"),
        ] {
            assert_eq!(named(refusal).as_deref(), Some(parameter), "{refusal}");
        }
    }

    #[test]
    fn a_model_that_does_not_see_is_named_by_what_it_does_not_take() {
        let refusal = br#"{"error":{"message":"Invalid content type. image_url is only supported by certain models.","param":"messages.[0].content.[0].type"}}"#;
        let content = json!([{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } }]);
        let request = json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
        assert_eq!(named_parameter(request.as_object().unwrap(), refusal).as_deref(), Some(PICTURES));
        assert_eq!(named_parameter(request.as_object().unwrap(), b"Invalid image data"), None);
    }

    #[test]
    fn what_is_about_one_request_names_none() {
        for refusal in [
            "",
            "Bad Request",
            r#"{"error":{"message":"This model's maximum context length is 4096 tokens, however you requested 5000 (max_tokens must be smaller)."}}"#,
            r#"{"error":{"message":"'max_tokens' is too large: 32. Your request has 4090 input tokens","param":"messages"}}"#,
            r#"{"error":{"message":"Invalid image","param":"messages[0].content[1].image_url"}}"#,
            r#"{"error":{"message":"Your request was rejected by the safety system: the user asks about a seed."}}"#,
            r#"{"detail":[{"loc":["body","messages",0,"content"],"msg":"too short for this model, temperature invalid"}]}"#,
            r#"{"error": "incorrect key provided"}"#,
        ] {
            assert_eq!(named(refusal), None, "{refusal}");
        }
    }
}
