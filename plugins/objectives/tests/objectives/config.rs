//! Configs: registration, defaults, strictness, messages.

use std::sync::Arc;

use isr_api::{BuildContext, Kind, PreferenceObjective};
use isr_config::registry::{ObjectiveConfig, entries};
// The registration is linked in with the crate.
use isr_objectives as _;

/// The config of an objective from the TOML body of its section.
pub(crate) fn config(name: &str, body: &str) -> Result<Box<dyn ObjectiveConfig>, String> {
    toml::from_str(&format!("type = \"{name}\"\n{body}")).map_err(|error| error.to_string())
}

/// The objective of that name and settings.
pub(crate) fn build(name: &str, body: &str) -> Arc<dyn PreferenceObjective> {
    let config = config(name, body).unwrap();
    config.validate().unwrap();
    config.build(&BuildContext::default()).unwrap()
}

#[test]
fn every_objective_builds_from_its_example_and_from_nothing() {
    let objectives: Vec<_> = entries().into_iter().filter(|entry| entry.kind == Kind::Objective).collect();
    let names: Vec<_> = objectives.iter().map(|entry| entry.name).collect();
    let expected = [
        "anchor",
        "aot",
        "aot_unpaired",
        "apo_down",
        "apo_zero",
        "bco_pair",
        "copo",
        "cpo",
        "d2po",
        "discopop",
        "dpo",
        "dpop",
        "exo_pair",
        "hinge",
        "ipo",
        "kto",
        "mdpo",
        "mix",
        "nca_pair",
        "orpo",
        "rdpo",
        "robust",
        "rpo",
        "sft",
        "sigmoid_norm",
        "simpo",
        "sppo_hard",
    ];
    assert_eq!(names, expected);
    for entry in objectives {
        build(entry.name, entry.example);
        build(entry.name, "");
        assert!(entry.help().ends_with('.'), "{}", entry.help());
        assert!(config(entry.name, "bata = 1").unwrap_err().contains("bata"));
        let schema = serde_json::to_value((entry.schema)()).unwrap();
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        for (key, property) in properties {
            assert!(property["description"].is_string(), "{}: {key} is not documented", entry.name);
        }
    }
}

#[test]
fn defaults_are_those_of_trl() {
    let text = serde_json::to_value(config("dpo", "").unwrap()).unwrap();
    assert_eq!(
        text,
        serde_json::json!({
            "type": "dpo", "beta": 0.1, "label_smoothing": 0.0, "f_divergence_type": "reverse_kl",
            "f_alpha_divergence_coef": 0.5, "wpo": false,
        })
    );
}

#[test]
fn values_out_of_range_are_named() {
    let message = |body| config("dpo", body).unwrap().validate().unwrap_err();
    assert_eq!(message("beta = 0"), "beta is 0; it must be more than 0 (and at most 1e6)");
    assert_eq!(message("beta = nan"), "beta is NaN; it must be more than 0 (and at most 1e6)");
    assert_eq!(message("label_smoothing = 0.5"), "label_smoothing is 0.5; it must be in [0, 0.5)");
    assert_eq!(message("label_smoothing = -0.1"), "label_smoothing is -0.1; it must be in [0, 0.5)");
}
