//! The configs as a user meets them: names, keys, examples, mistakes.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use isr_api::Kind;
use isr_config::registry::{SamplerConfig, find};
use isr_samplers::{ServerSettings, SglangConfig, VllmConfig};
use serde_json::{Value, json};

const HELP: &str = "server that samples in the policy's place, with the weights of each iteration.";

#[test]
fn each_is_registered_with_its_own_help_and_the_same_documented_keys() {
    for (name, engine) in [("vllm", "vLLM"), ("sglang", "SGLang")] {
        let entry = find(Kind::Sampler, name).unwrap();
        assert_eq!(entry.help(), format!("{engine} {HELP}"));
        let schema: Value = serde_json::to_value((entry.schema)()).unwrap();
        let keys = schema["properties"].as_object().unwrap();
        assert_eq!(keys.len(), 10, "{name}");
        for (key, value) in keys {
            assert!(value["description"].as_str().is_some_and(|text| text.len() > 20), "{key}: {value}");
        }
        assert_eq!(schema["additionalProperties"], false);
        let section = json!({ "type": name });
        let parsed: Box<dyn SamplerConfig> = serde_json::from_value(section).unwrap();
        parsed.validate().unwrap();
    }
}

#[test]
fn what_is_written_is_what_was_written_before_there_were_two() {
    let written = serde_json::to_value(VllmConfig::default()).unwrap();
    let before = json!({
        "base_url": "http://127.0.0.1:8000", "media": "video", "concurrency": 256, "timeout_s": 600.0,
        "start_s": 1800.0, "retries": 5,
    });
    assert_eq!(written, before);
    assert_eq!(serde_json::from_value::<SglangConfig>(json!({})).unwrap().0, ServerSettings::default());
    let error = serde_json::from_value::<SglangConfig>(json!({ "bas_url": "x" })).unwrap_err().to_string();
    assert!(error.contains("bas_url") && error.contains("base_url"), "{error}");
}
