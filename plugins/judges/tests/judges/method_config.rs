//! Configs of the method's components: the judge and the retrospector `self`, `fixed`, `consistent`.

use std::sync::Arc;

use isr_api::{BuildContext, Judge, Kind, Retrospector, Selection};
use isr_config::registry::{JudgeConfig, RetrospectorConfig, SelectionConfig, entries};

/// Components that need no settings.
const METHOD: [(Kind, &str); 4] = [
    (Kind::Retrospector, "fixed"),
    (Kind::Retrospector, "self"),
    (Kind::Judge, "self"),
    (Kind::Selection, "consistent"),
];

/// TOML of the miniature world's judge.
pub(crate) const MINIATURE_JUDGE: &str = r#"
prompt = "{% if context %}context: {{ context }}\n{% endif %}question: {{ question }}\na: {{ first }}\nb: {{ second }}\nwhich answer is better, a or b?"
choices = ["a", "b"]
"#;

/// TOML of the miniature world's retrospector.
pub(crate) const MINIATURE_RETROSPECTOR: &str = r#"
prompt = "{% if previous %}previous description: {{ previous }}\n{% endif %}describe the video."
"#;

macro_rules! builder {
    ($parse:ident, $build:ident, $config:ident, $name:literal, $built:ident) => {
        fn $parse(body: &str) -> Result<Box<dyn $config>, String> {
            let section = format!("type = \"{}\"\n{body}", $name);
            toml::from_str(&section).map_err(|error| error.to_string())
        }

        /// The component with these settings.
        pub(crate) fn $build(body: &str) -> Arc<dyn $built> {
            let config = $parse(body).unwrap();
            config.validate().unwrap();
            config.build(&BuildContext::default()).unwrap()
        }
    };
}

builder!(judge_config, judge, JudgeConfig, "self", Judge);
builder!(retrospector_config, retrospector, RetrospectorConfig, "self", Retrospector);
builder!(selection_config, selection, SelectionConfig, "consistent", Selection);

fn judge_message(body: &str) -> String {
    judge_config(body).unwrap().validate().unwrap_err()
}

#[test]
fn components_build_from_nothing_and_from_their_examples() {
    for entry in entries().into_iter().filter(|entry| METHOD.contains(&(entry.kind, entry.name))) {
        for body in [entry.example, ""] {
            let section = format!("type = \"{}\"\n{body}", entry.name);
            let cx = BuildContext::default();
            match entry.kind {
                Kind::Retrospector => {
                    let config: Box<dyn RetrospectorConfig> = toml::from_str(&section).unwrap();
                    config.validate().unwrap();
                    drop(config.build(&cx).unwrap());
                }
                Kind::Judge => drop(judge(body)),
                _ => drop(selection(body)),
            }
        }
    }
}

#[test]
fn unknown_keys_are_errors_that_name_them() {
    assert!(judge_config("chioces = []").unwrap_err().contains("chioces"));
    assert!(retrospector_config("sampling = { temprature = 1 }").unwrap_err().contains("temprature"));
    assert!(selection_config("margin = 0.1").unwrap_err().contains("margin"));
}

#[test]
fn sampling_keys_that_are_left_out_keep_this_components_default() {
    let config = retrospector_config("sampling = { max_new_tokens = 64 }").unwrap();
    let value = serde_json::to_value(&config).unwrap();
    assert_eq!(value["sampling"]["max_new_tokens"], 64);
    assert_eq!(value["sampling"]["temperature"], 0.0);
    let again: Box<dyn RetrospectorConfig> = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), value);
}

#[test]
fn templates_that_cannot_work_are_refused_by_key_and_line() {
    let unclosed =
        judge_message(r#"prompt = "{{ question }}\n{{ first }} {{ second }}\n{% if context %}""#);
    assert!(unclosed.starts_with("prompt, line 3: syntax error: "), "{unclosed}");
    insta::assert_snapshot!(
        judge_message(r#"prompt = "{{ question }} {{ first }}""#),
        @"prompt does not use `second`; without {{ second }} the model cannot answer"
    );
    insta::assert_snapshot!(
        judge_message(r#"prompt = "{{ question }} {{ first }} {{ second }} {{ contxt }}""#),
        @"prompt uses `contxt`, which is not known here; it may use question, first, second, context, choices"
    );
    let filter =
        judge_message(r#"prompt = "{{ question }}{{ context }}\n{{ first }} {{ second | shout }}""#);
    assert!(filter.starts_with("prompt, line 2: unknown filter: "), "{filter}");
    let previous = retrospector_config(r#"prompt = "{{ previous.text }} describe the video.""#).unwrap();
    assert!(
        previous.validate().unwrap_err().starts_with("prompt, line 1: undefined value"),
        "none has no fields"
    );
    let empty = retrospector_config(r#"prompt = "{% if previous %}{{ previous }}{% endif %}""#).unwrap();
    assert_eq!(empty.validate().unwrap_err(), "prompt is empty; it must ask for a description");
}

#[test]
fn a_template_without_the_context_needs_the_switch_off() {
    let body = r#"prompt = "{{ question }} {{ first }} {{ second }}""#;
    insta::assert_snapshot!(
        judge_message(body),
        @"prompt does not use `context`; write {{ context }} into it, or set use_context = false"
    );
    judge(&format!("{body}\nuse_context = false"));
    let body = r#"prompt = "describe the video.""#;
    let message = retrospector_config(body).unwrap().validate().unwrap_err();
    assert!(message.ends_with("or set use_previous = false"), "{message}");
    retrospector(&format!("{body}\nuse_previous = false"));
}

#[test]
fn templates_may_loop_set_and_test() {
    judge(
        r#"prompt = """
{% set answers = [first, second] %}
{% if context is not none %}{{ context }}{% endif %}
{{ question }}
{% for choice in choices %}
{{ loop.index }}. {{ choice }}: {{ answers[loop.index0] | upper }}
{% endfor %}
""""#,
    );
}

#[test]
fn values_out_of_range_are_named() {
    assert!(judge_message(r#"choices = ["A", " "]"#).starts_with("choices has an empty reply"));
    assert!(judge_message(r#"choices = ["A", "A"]"#).starts_with("choices are `A` and `A`; neither may"));
    assert!(judge_message(r#"choices = ["yes", "yes, b"]"#).starts_with("choices are `yes` and `yes, b`"));
    assert_eq!(judge_message("min_choice_mass = 1.0"), "min_choice_mass is 1; it must be in [0, 1)");
    assert!(judge_config(r#"choices = ["A"]"#).is_err());
    assert!(judge_config(r#"orders = "random""#).unwrap_err().contains("`both` or `given`"));
    let hot = retrospector_config("sampling = { temperature = -1.0 }").unwrap();
    assert_eq!(hot.validate().unwrap_err(), "sampling.temperature is -1; it must be 0 or more");
    let wide = selection_config("min_margin = 0.6").unwrap();
    assert_eq!(wide.validate().unwrap_err(), "min_margin is 0.6; it must be in [0, 0.5]");
}
