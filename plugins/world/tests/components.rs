//! The crate as a config sees it: what it registers, and that each entry's example is a valid config.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use isr_api::{BuildContext, Kind};
use isr_config::registry::{DataConfig, DemonstrationsConfig, EvaluatorConfig, JudgeConfig, entries, find};
use isr_world as _;
use serde_json::{Value, json};

/// The example of an entry as JSON, `type` included.
fn example(kind: Kind, name: &str) -> Value {
    let entry = find(kind, name).unwrap_or_else(|| panic!("{kind:?} `{name}` is not registered"));
    let mut table: Value = toml::from_str(entry.example).unwrap();
    table["type"] = json!(name);
    table
}

#[test]
fn the_listing_is_short_and_complete() {
    let listed: Vec<_> =
        entries().iter().map(|it| format!("{} {}: {}", it.kind.section(), it.name, it.help())).collect();
    insta::assert_snapshot!(listed.join("\n"));
}

#[test]
fn every_example_validates_and_builds() {
    let config: Box<dyn DataConfig> = serde_json::from_value(example(Kind::Data, "world")).unwrap();
    config.validate().unwrap();
    config.build(&BuildContext::default()).unwrap();
    let config: Box<dyn EvaluatorConfig> =
        serde_json::from_value(example(Kind::Evaluator, "world")).unwrap();
    config.validate().unwrap();
    config.build(&BuildContext::default()).unwrap();
    let config: Box<dyn JudgeConfig> = serde_json::from_value(example(Kind::Judge, "reference")).unwrap();
    config.validate().unwrap();
    config.build(&BuildContext { config: json!({ "data": example(Kind::Data, "world") }) }).unwrap();
    let config: Box<dyn DemonstrationsConfig> =
        serde_json::from_value(example(Kind::Demonstrations, "world")).unwrap();
    config.validate().unwrap();
    config.build(&BuildContext::default()).unwrap();
}

#[test]
fn demonstrations_are_refused_before_any_work() {
    for (config, expected) in [
        (json!({"type": "world", "world": {"size": 33}}), "world.size is 33; it must be even"),
        (
            json!({"type": "world", "mixture": {"corruption": 2.0}}),
            "mixture.corruption is 2; it is a share",
        ),
        (json!({"type": "world", "mixture": {"judge_template": "{{ x }}"}}), "template `judge_template`: "),
    ] {
        let config: Box<dyn DemonstrationsConfig> = serde_json::from_value(config).unwrap();
        let message = config.validate().unwrap_err();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn every_setting_is_documented() {
    for entry in entries() {
        let schema = serde_json::to_value((entry.schema)()).unwrap();
        for (key, property) in schema["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{}: `{key}` has no help", entry.name);
        }
    }
}

#[test]
fn values_out_of_range_are_refused_when_built() {
    let config: Box<dyn EvaluatorConfig> =
        serde_json::from_value(json!({"type": "world", "describe_recall": 0.0})).unwrap();
    assert!(config.validate().unwrap_err().contains("describe_recall is 0"));
    assert!(config.build(&BuildContext::default()).is_err());
    let config: Box<dyn DataConfig> = serde_json::from_value(json!({"type": "world", "size": 33})).unwrap();
    assert!(config.build(&BuildContext::default()).is_err());
}
