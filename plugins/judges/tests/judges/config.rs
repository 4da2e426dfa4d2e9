//! Configs: registration, strictness, messages.

use isr_api::Kind;
use isr_config::registry::{Entry, JudgeConfig, RetrospectorConfig, SelectionConfig, entries};
// Links the registrations.
use isr_judges as _;
use serde_json::Value;

use crate::support::{parse, refusal};

/// The components that the crate registers.
pub(crate) fn registered() -> impl Iterator<Item = &'static Entry> {
    entries().into_iter().filter(|entry| entry.name != "stub")
}

#[test]
fn the_components_are_these() {
    let names = |kind| registered().filter(move |entry| entry.kind == kind).map(|entry| entry.name);
    insta::assert_snapshot!(names(Kind::Judge).collect::<Vec<_>>().join(" "));
    insta::assert_snapshot!(names(Kind::Selection).collect::<Vec<_>>().join(" "));
    insta::assert_snapshot!(names(Kind::Retrospector).collect::<Vec<_>>().join(" "), @"fixed self");
}

#[test]
fn every_setting_is_documented_with_its_default() {
    for entry in registered() {
        assert!(entry.help().ends_with('.'), "{}", entry.help());
        let schema = serde_json::to_value((entry.schema)()).unwrap();
        let nested = schema.get("$defs").and_then(Value::as_object).into_iter().flatten();
        for schema in nested.map(|(_, schema)| schema).chain([&schema]) {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (key, property) in properties.into_iter().flatten() {
                let text = property["description"].as_str().unwrap_or_default();
                let says =
                    text.contains("efault") || text.contains("Required") || text.contains("left out");
                assert!(says, "{}.{key}: {text}", entry.name);
            }
        }
        assert_eq!(schema["additionalProperties"], false, "{} takes unknown keys", entry.name);
    }
}

#[test]
fn a_config_that_is_written_and_read_is_the_same() {
    for entry in registered() {
        let section = format!("type = \"{}\"\n{}", entry.name, entry.example);
        let again = |value: &Value| match entry.kind {
            Kind::Judge => {
                let config: Box<dyn JudgeConfig> = serde_json::from_value(value.clone()).unwrap();
                serde_json::to_value(&config).unwrap()
            }
            Kind::Retrospector => {
                let config: Box<dyn RetrospectorConfig> = serde_json::from_value(value.clone()).unwrap();
                serde_json::to_value(&config).unwrap()
            }
            _ => {
                let config: Box<dyn SelectionConfig> = serde_json::from_value(value.clone()).unwrap();
                serde_json::to_value(&config).unwrap()
            }
        };
        let value = again(&toml::from_str(&section).unwrap());
        assert_eq!(again(&value), value, "{}", entry.name);
    }
}

#[test]
fn unknown_keys_are_errors_that_name_them_however_deep() {
    for entry in registered().filter(|entry| entry.kind == Kind::Judge) {
        let section = format!("type = \"{}\"\nshrug = 1\n{}", entry.name, entry.example);
        assert!(parse(&section).unwrap_err().contains("shrug"), "{}", entry.name);
    }
    let nested =
        "type = 'abstain'\ninner = { type = 'both_orders', inner = { type = 'length', perfer = 1 } }";
    assert!(parse(nested).unwrap_err().contains("perfer"));
    assert!(parse("type = 'verdict'\nreply = { tries = 1 }").unwrap_err().contains("tries"));
    assert!(parse("type = 'abstain'").unwrap_err().contains("inner"));
    assert!(parse("type = 'abstain'\ninner = { type = 'nobody' }").unwrap_err().contains("nobody"));
}

#[test]
fn schemas_of_nested_judges_end_and_complete_the_nested_one() {
    let both_orders = registered().find(|entry| entry.name == "both_orders").unwrap();
    let schema = serde_json::to_value((both_orders.schema)()).unwrap();
    let pointer = schema["properties"]["inner"]["$ref"].as_str().unwrap().trim_start_matches('#');
    let choice = schema.pointer(pointer).unwrap();
    let names: Vec<_> = choice["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["properties"]["type"]["const"].clone())
        .collect();
    assert!(names.contains(&"both_orders".into()) && names.contains(&"verdict".into()), "{names:?}");
}

#[test]
fn sampling_keys_that_are_left_out_keep_this_components_default() {
    let config = parse("type = 'verdict'\nreply = { sampling = { top_p = 0.5 } }").unwrap();
    let value = serde_json::to_value(&config).unwrap();
    assert_eq!(value["reply"]["sampling"]["temperature"], 0.0);
    assert_eq!(value["reply"]["sampling"]["max_new_tokens"], 32);
}

#[test]
fn values_out_of_range_are_named_with_their_place() {
    let cases = [
        ("type = 'length'\nslope = 0.0", "slope is 0; it must be more than 0"),
        ("type = 'rule'\nrules = [{ max_words = 3 }]\nslope = -1.0", "slope is -1; it must be more than 0"),
        ("type = 'rule'\nrules = []", "rules: empty; name at least one rule"),
        (
            "type = 'verdict'\nchoices = ['A', ' ']",
            "choices has an empty reply; give two words that the model can say",
        ),
        (
            "type = 'verdict'\nchoices = ['a', 'A']",
            "choices are `a` and `A`; they must differ in more than case",
        ),
        ("type = 'verdict'\nreply = { attempts = 0 }", "reply.attempts is 0; it must be at least 1"),
        (
            "type = 'verdict'\nreply = { retry_temperature = 0.0 }",
            "reply.retry_temperature is 0; it must be more than 0",
        ),
        (
            "type = 'verdict'\nreply = { sampling = { top_p = 2.0 } }",
            "reply.sampling.top_p is 2; it must be in (0, 1]",
        ),
        (
            "type = 'pointwise'\nscale = [5, 1]",
            "scale is [5, 1]; it must rise from a number to a larger one",
        ),
        ("type = 'pointwise'\nslope = nan", "slope is NaN; it must be more than 0"),
        ("type = 'rubric'\ncriteria = []", "the number of criteria is 0; it must be at least 1"),
        (
            "type = 'rubric'\ncriteria = [{ name = 'a' }, { name = 'a' }]",
            "criteria[1].name is `a` a second time",
        ),
        (
            "type = 'rubric'\ncriteria = [{ name = 'a', weight = 0.0 }]",
            "criteria[0].weight is 0; it must be more than 0",
        ),
        ("type = 'majority'\ncalls = 0\ninner = { type = 'random' }", "calls is 0; it must be at least 1"),
        (
            "type = 'majority'\nmin_agreement = 1.5\ninner = { type = 'random' }",
            "min_agreement is 1.5; it must be in (0, 1]",
        ),
        ("type = 'ensemble'\nmembers = []", "members have no weight above 0; name at least one judge"),
        (
            "type = 'ensemble'\nmembers = [{ weight = -1.0, judge = { type = 'random' } }]",
            "members[0].weight is -1; it must be 0 or more",
        ),
        ("type = 'cascade'\njudges = [{ type = 'random' }]", "judges has 1; a cascade needs at least two"),
        (
            "type = 'cascade'\njudges = [{ type = 'random' }, { type = 'length', slope = -2.0 }]",
            "judges[1] (length): slope is -2; it must be more than 0",
        ),
        (
            "type = 'length_debiased'\nslope = inf\ninner = { type = 'random' }",
            "slope is inf; it must be a finite number",
        ),
        (
            "type = 'length_debiased'\nslope = 0.0\nclip = 0.5\ninner = { type = 'random' }",
            "clip is 0.5; it must be in (0, 0.5)",
        ),
        (
            "type = 'abstain'\nmin_margin = 0.6\ninner = { type = 'random' }",
            "min_margin is 0.6; it must be in [0, 0.5]",
        ),
        (
            "type = 'veto'\nrules = [{ points = 1.0 }]\ninner = { type = 'random' }",
            "rules[0]: a rule without conditions; give regex, keywords, min_words or max_words",
        ),
        (
            "type = 'both_orders'\ninner = { type = 'abstain', inner = { type = 'length', slope = 0.0 } }",
            "inner (abstain): inner (length): slope is 0; it must be more than 0",
        ),
    ];
    for (section, message) in cases {
        assert_eq!(refusal(section), message, "{section}");
    }
    assert!(refusal("type = 'verdict'\npattern = '('").starts_with("pattern: "));
    let template = refusal("type = 'verdict'\nprompt = '{{ first }} {{ second }}'");
    assert!(template.starts_with("prompt does not use `question`"), "{template}");
    let context = refusal("type = 'pointwise'\nprompt = '{{ question }} {{ answer }}'");
    assert!(context.ends_with("or set use_context = false"), "{context}");
}

/// The documentation of this crate's components.
const DOCUMENTATION: &str = include_str!("../../../../docs/judges.md");

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let blocks = DOCUMENTATION.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut checked = 0;
    for block in blocks {
        let table: toml::Table = toml::from_str(block).unwrap();
        // The config of an audit, which the command line's tests read.
        if table.contains_key("name") {
            continue;
        }
        for (name, section) in table {
            // Judge of another crate.
            if section["type"].as_str() == Some("reference") {
                continue;
            }
            match name.as_str() {
                "judge" => section.try_into::<Box<dyn JudgeConfig>>().unwrap().validate().unwrap(),
                "selection" => section.try_into::<Box<dyn SelectionConfig>>().unwrap().validate().unwrap(),
                other => panic!("a section that is no part of this: {other}"),
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 6);
}

#[test]
fn the_documentation_names_every_component_and_every_setting() {
    for entry in registered() {
        let row = format!("\n| `{}` |", entry.name);
        assert!(DOCUMENTATION.contains(&row), "{} has no row", entry.name);
        let schema = serde_json::to_value((entry.schema)()).unwrap();
        let properties = schema.get("properties").and_then(Value::as_object);
        for (key, _) in properties.into_iter().flatten() {
            assert!(
                DOCUMENTATION.contains(&format!("`{key}`")),
                "{}.{key} is not in docs/judges.md",
                entry.name
            );
        }
    }
}
