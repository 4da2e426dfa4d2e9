//! `-s` and the environment.

use isr_config::to_toml;
use proptest::prelude::*;
use serde_json::json;

use crate::{MINIMAL, loaded, message, minimal_with, text};

fn with(overrides: &[&str]) -> serde_json::Value {
    loaded(&text("run.toml", MINIMAL).overrides(overrides.iter().copied())).settings
}

#[test]
fn values_are_toml_or_else_strings() {
    let settings = with(&[
        "data.path=/data/a b.jsonl",
        "data.size=[336, 224]",
        "data.fields={question = 'q', answer = 'a'}",
        "objective.beta = 1",
        "evaluation.base=false",
        "loop.sampling.stop=['</s>']",
    ]);
    assert_eq!(settings["data"]["path"], json!("/data/a b.jsonl"));
    assert_eq!(settings["data"]["size"], json!([336, 224]));
    assert_eq!(settings["data"]["fields"], json!({"question": "q", "answer": "a"}));
    assert_eq!(settings["objective"]["beta"], json!(1.0));
    assert_eq!(settings["evaluation"]["base"], json!(false));
    assert_eq!(settings["loop"]["sampling"]["stop"], json!(["</s>"]));
}

#[test]
fn a_key_that_wants_a_string_gets_what_was_typed() {
    assert_eq!(with(&["name=007"])["name"], json!("007"));
    assert_eq!(with(&["name=1e3"])["name"], json!("1e3"));
    assert_eq!(with(&["policy.model=true"])["policy"]["model"], json!("true"));
    assert_eq!(with(&["policy.model='true'"])["policy"]["model"], json!("true"));
    let loader = text("run.toml", MINIMAL).variables([("ISR__NAME", "12")]);
    assert_eq!(loaded(&loader).value.name, "12");
}

#[test]
fn an_item_of_a_list_can_be_set() {
    let votes = "[judge]\ntype = 'vote'\nmembers = [{ type = 'self' }, { type = 'self', threshold = 0.7 }]";
    let loader = minimal_with(votes).overrides(["judge.members[1].threshold=0.8"]);
    let members = json!([{"type": "self", "threshold": 0.5}, {"type": "self", "threshold": 0.8}]);
    assert_eq!(loaded(&loader).settings["judge"]["members"], members);
}

#[test]
fn a_malformed_override_is_named() {
    let failed = |text: &str| message(&minimal_with("").overrides([text]));
    insta::assert_snapshot!(failed("train.epochs"), @"`-s train.epochs` is not of the form `-s key=value`");
    insta::assert_snapshot!(failed("train..epochs=1"), @"`-s train..epochs=1`: `train..epochs` is not a key; a key is a dotted path such as `train.epochs` or `judge.members[0].type`");
    insta::assert_snapshot!(failed("judge.members[99999999].type=self"), @"`-s judge.members[99999999].type=self`: `judge.members[99999999].type` is not a key; a key is a dotted path such as `train.epochs` or `judge.members[0].type`");
}

proptest! {
    #[test]
    fn any_text_round_trips_through_a_quoted_override(model in "\\PC*") {
        let quoted = toml::Value::String(model.clone()).to_string();
        let settings = with(&[&format!("policy.model={quoted}")]);
        prop_assert_eq!(&settings["policy"]["model"], &json!(model));
    }

    #[test]
    fn any_number_round_trips_through_an_override(rate in 1e-300f64..1e300, seed in 0..i64::MAX) {
        let overrides = [format!("train.learning_rate={rate:e}"), format!("seed={seed}")];
        let config = loaded(&text("run.toml", MINIMAL).overrides(overrides));
        prop_assert_eq!(config.value.train.learning_rate, rate);
        prop_assert_eq!(&config.settings["seed"], &json!(seed));
        let written = to_toml(&config.value).unwrap();
        prop_assert_eq!(loaded(&text("config.toml", &written)).settings, config.settings);
    }

    #[test]
    fn no_override_panics(key in "[a-z.\\[\\]0-9]{0,20}", value in "\\PC{0,20}") {
        let loader = text("run.toml", MINIMAL).overrides([format!("{key}={value}")]);
        let _ = loader.load::<isr_config::RunConfig>();
    }
}
