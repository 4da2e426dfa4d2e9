//! Settings of the family: what is out of range is named, and what is written can be read again.

use isr_api::Kind;
use isr_config::registry::entries;

use crate::config::config;

fn message(name: &str, body: &str) -> String {
    config(name, body).unwrap().validate().unwrap_err()
}

#[test]
fn every_number_of_every_objective_is_checked() {
    for entry in entries().into_iter().filter(|entry| entry.kind == Kind::Objective) {
        let schema = serde_json::to_value((entry.schema)()).unwrap();
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            if property["type"] == "number" || property["type"][0] == "number" {
                for wrong in ["nan", "inf", "-1e7"] {
                    let text = message(entry.name, &format!("{key} = {wrong}"));
                    assert!(text.starts_with(&format!("{key} is ")), "{}: {text}", entry.name);
                }
            }
        }
    }
}

#[test]
fn messages_say_what_a_value_may_be() {
    assert_eq!(
        message("exo_pair", "label_smoothing = 0.0"),
        "label_smoothing is 0; it must be in (0, 0.5)"
    );
    assert_eq!(message("dpo", "ld_alpha = 1.5"), "ld_alpha is 1.5; it must be in [0, 1]");
    assert_eq!(
        message("rpo", "rpo_alpha = -1"),
        "rpo_alpha is -1; it must be at least 0 (and at most 1e6)"
    );
    let unknown = config("dpo", "f_divergence_type = 'kl'").unwrap_err();
    assert!(
        unknown.contains("`reverse_kl`, `forward_kl`, `js_divergence`, `alpha_divergence`"),
        "{unknown}"
    );
}

#[test]
fn a_mix_names_the_part_that_is_wrong() {
    let text = message("mix", "parts = [{ type = 'dpo' }, { type = 'ipo', beta = 0 }]");
    assert_eq!(text, "parts[1] (ipo): beta is 0; it must be in [0.0001, 1000000]");
    let text = message("mix", "parts = [{ type = 'dpo', weight = -1 }]");
    assert!(text.starts_with("parts[0] (dpo): weight is -1"), "{text}");
    assert!(message("mix", "parts = []").contains("name at least one objective"));
    let text = config("mix", "parts = [{ type = 'dpo', bata = 1 }]").unwrap_err();
    assert!(text.contains("bata"), "{text}");
}

#[test]
fn every_config_reads_what_it_writes() {
    for entry in entries().into_iter().filter(|entry| entry.kind == Kind::Objective) {
        let written = toml::to_string(&config(entry.name, entry.example).unwrap()).unwrap();
        let read: Box<dyn isr_config::registry::ObjectiveConfig> = toml::from_str(&written).unwrap();
        assert_eq!(toml::to_string(&read).unwrap(), written);
    }
}

/// A config file with nothing but an objective.
#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Section {
    objective: Box<dyn isr_config::registry::ObjectiveConfig>,
}

impl isr_config::Validate for Section {}

#[test]
fn every_example_passes_the_loader_of_configs() {
    for entry in entries().into_iter().filter(|entry| entry.kind == Kind::Objective) {
        let text = format!("[objective]\ntype = \"{}\"\n{}", entry.name, entry.example);
        let loader = isr_config::Loader::new().text("test.toml", text, ".");
        match loader.load::<Section>() {
            Ok(loaded) => assert_eq!(loaded.value.objective.name(), entry.name),
            Err(error) => panic!("{}: {error}", entry.name),
        }
    }
}
