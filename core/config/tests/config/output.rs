//! What is written from a config, and what is built from it.

use isr_api::BuildContext;
use isr_config::registry::entries;
use isr_config::{Loader, Validate, difference, file_schema, schema, to_toml};
use isr_run::Components;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{MINIMAL, loaded, minimal_with, text};

#[test]
fn a_config_written_as_toml_loads_to_the_same() {
    let rich = "name = 'x'\nseed = 9007199254740993
        [loop]\nsamples = 3\nsampling = { stop = [\"a\\n\\\"b\"], top_p = 0.1 }
        [train]\nmax_grad_norm = 0\nlearning_rate = 5e-7\nschedule = 'cosine'
        [retrospector]\ntype = 'self'\n[evaluator]\ntype = 'words'
        [judge]\ntype = 'vote'\nmembers = [{ type = 'self' }, { type = 'vote', members = [] }]
        [video.fit]\nhow = 'pad'\ncolour = [1, 2, 3]
        [data]\nfields = { \"a b\" = 'c.d' }\nsize = [1, 2]
        [encoder]\nlayers = ['x']\n[policy]\nlora = { rank = 4 }";
    for loader in [text("run.toml", MINIMAL), minimal_with(rich)] {
        let config = loaded(&loader);
        let toml = to_toml(&config.value).unwrap();
        let again = loaded(&text("config.toml", &toml));
        assert_eq!(again.settings, config.settings, "{toml}");
    }
}

#[test]
fn the_toml_reads_like_a_config() {
    insta::assert_snapshot!(to_toml(&loaded(&text("run.toml", MINIMAL)).value).unwrap(), @r#"
    name = "run"
    seed = 0

    [data]
    type = "list"
    path = "samples.jsonl"

    [data.fields]

    [video]
    type = "frames"
    frames = 8

    [video.fit]
    how = "crop"

    [encoder]
    type = "follows"
    layers = -1

    [policy]
    type = "tiny"
    model = "weights"

    [judge]
    type = "self"
    threshold = 0.5

    [objective]
    type = "dpo"
    beta = 0.1
    form = "sigmoid"

    [selection]
    type = "all"

    [loop]
    iterations = 9
    responses = 2
    mismatched_contexts = false
    concurrency = 32
    quarantine_limit = 0.1
    feature_cache_mb = 1024
    feature_cache_gb = 20.0

    [loop.sampling]
    temperature = 1.0
    top_p = 1.0
    top_k = 0
    max_new_tokens = 256
    stop = []

    [train]
    epochs = 1
    batch_size = 128
    learning_rate = 0.0000005
    schedule = "linear"
    warmup_ratio = 0.1
    max_grad_norm = 1.0

    [evaluation]
    max_new_tokens = 256
    base = true
    "#);
}

#[test]
fn a_difference_names_the_key_and_both_values() {
    let old = json!({"train": {"epochs": 1}, "loop": {"iterations": 3}, "name": "a", "gone": null});
    let mut new = json!({"name": "a", "loop": {"iterations": 5}, "train": {"epochs": 1}});
    assert_eq!(difference(&old, &new, &["loop.iterations"]), None);
    assert_eq!(difference(&old, &new, &["loop"]), None);
    assert_eq!(difference(&old, &new, &[]).as_deref(), Some("`loop.iterations` was 3, is 5"));
    new["train"]["epochs"] = json!(2);
    assert_eq!(difference(&old, &new, &["loop"]).as_deref(), Some("`train.epochs` was 1, is 2"));
    let with = json!({"judge": {"type": "self"}});
    let added = difference(&json!({}), &with, &[]);
    assert_eq!(added.as_deref(), Some("`judge.type` was not set, is \"self\""));
    let removed = difference(&with, &json!({}), &[]);
    assert_eq!(removed.as_deref(), Some("`judge.type` was \"self\", is not set"));
}

#[test]
fn the_schema_has_every_registered_component() {
    let schema = schema().to_value();
    assert_eq!(schema["$schema"], json!("https://json-schema.org/draft/2020-12/schema"));
    let text = schema.to_string();
    for entry in entries() {
        assert!(text.contains(&format!("\"const\":\"{}\"", entry.name)), "{}", entry.name);
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&schema["$defs"]["JudgeConfig"]).unwrap(), @r##"
    {
      "title": "judge",
      "anyOf": [
        {
          "title": "self",
          "description": "The policy judges itself.",
          "type": "object",
          "properties": {
            "type": {
              "description": "The policy judges itself.",
              "type": "string",
              "const": "self"
            },
            "threshold": {
              "description": "Least probability of a clear verdict. In [0.5, 1].",
              "type": "number",
              "format": "double",
              "default": 0.5
            }
          },
          "additionalProperties": false
        },
        {
          "title": "vote",
          "description": "Several judges vote.",
          "type": "object",
          "properties": {
            "type": {
              "description": "Several judges vote.",
              "type": "string",
              "const": "vote"
            },
            "members": {
              "description": "Who votes.",
              "type": "array",
              "items": {
                "$ref": "#/$defs/JudgeConfig"
              }
            },
            "referee": {
              "description": "Who decides a tie. Default none.",
              "anyOf": [
                {
                  "$ref": "#/$defs/JudgeConfig"
                },
                {
                  "type": "null"
                }
              ]
            }
          },
          "additionalProperties": false
        }
      ]
    }
    "##);
    assert!(described(&schema, "RunConfig") > 30);
}

/// How many properties there are; each must be described.
fn described(schema: &Value, at: &str) -> usize {
    match schema {
        Value::Object(map) => {
            let properties = map.get("properties").and_then(Value::as_object);
            let own = properties.into_iter().flatten().map(|(key, property)| {
                let explained = property.get("description").is_some() || property.get("const").is_some();
                assert!(explained, "{at}.{key}: no description");
                1
            });
            own.sum::<usize>() + map.iter().map(|(key, value)| described(value, key)).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(|item| described(item, at)).sum(),
        _ => 0,
    }
}

#[test]
fn every_example_is_valid_as_it_stands() {
    for entry in entries() {
        let section = format!("[{}]\ntype = \"{}\"\n{}", entry.kind.section(), entry.name, entry.example);
        loaded(&minimal_with(&section));
    }
}

#[test]
fn components_are_built_from_a_config() {
    let full = "[retrospector]\ntype = 'self'\n[evaluator]\ntype = 'words'";
    let config = loaded(&minimal_with(full));
    let cx = BuildContext { config: config.settings };
    let components = Components::build(&config.value, &cx).unwrap();
    assert!(components.retrospector.is_some() && components.evaluator.is_some());
    let without = Components::build(&loaded(&text("run.toml", MINIMAL)).value, &cx).unwrap();
    assert!(without.retrospector.is_none() && without.evaluator.is_none());
}

#[test]
fn an_encoder_left_out_is_the_policys_own_or_an_error() {
    let config = loaded(&text("run.toml", &MINIMAL.replace("[encoder]\ntype = \"follows\"\n", "")));
    assert!(config.value.encoder.is_none());
    let cx = BuildContext { config: config.settings };
    let error = Components::build(&config.value, &cx).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot build encoder `the policy's own`: policy `tiny` has no encoder of its own; choose one in [encoder]"
    );
}

#[test]
fn a_component_that_cannot_be_built_is_named() {
    let config = loaded(&minimal_with("[policy]\ntype = 'broken'"));
    let error = Components::build(&config.value, &BuildContext::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot build policy `broken`: libtorch is not installed");
}

/// Another config than that of a run.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OtherConfig {
    /// A number.
    steps: u64,
}

impl Validate for OtherConfig {}

#[test]
fn another_struct_is_loaded_with_the_same_strictness() {
    let load = |toml: &str| Loader::new().text("sft.toml", toml, "").load::<OtherConfig>();
    assert_eq!(load("steps = 3").unwrap().value.steps, 3);
    insta::assert_snapshot!(load("step = 3").unwrap_err().to_string(), @"
    2 problems in the config:
    - unknown key `step` in sft.toml; did you mean `steps`?
    - missing key `steps` (A number)
    ");
    assert_eq!(file_schema::<OtherConfig>().get("then").unwrap()["required"], json!(["steps"]));
}
