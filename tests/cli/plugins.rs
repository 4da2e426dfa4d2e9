//! `isr plugins`.

use std::path::Path;

use isr_dpo::registry::entries;

use crate::support::{isr, isr_line};

fn said(line: &str) -> crate::support::Said {
    isr_line(Path::new("."), line)
}

#[test]
fn the_list_names_every_component() {
    insta::assert_snapshot!(said("plugins list").result());
}

#[test]
fn the_list_can_be_of_one_kind_and_json() {
    let text = said("plugins list --kind objective --json").result();
    let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(list.iter().all(|it| it["kind"] == "objective" && it["help"].is_string()), "{text}");
    assert!(list.iter().any(|it| it["name"] == "dpo"), "{text}");
}

#[test]
fn every_component_is_described_with_every_key_and_an_example() {
    // `obliging` is these tests' own (`swaps.rs`); the program does not have it.
    for entry in entries().into_iter().filter(|entry| entry.name != "obliging") {
        let (kind, name) = (entry.kind.section(), entry.name);
        let text = isr(Path::new("."), ["plugins", "describe", kind, name]).result();
        let heading = if kind == "observers" { "[[observers]]".to_owned() } else { format!("[{kind}]") };
        assert!(text.contains(&format!("\n  {heading}\n  type = \"{name}\"")), "{text}");
        let schema = (entry.schema)().to_value();
        for key in schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let listed = text.contains(&format!("\n  {key}: ")) || text.contains(&format!("\n  {key}."));
            assert!(listed, "{kind} {name}: no {key} in\n{text}");
        }
    }
}

#[test]
fn a_description_has_types_defaults_and_required_keys() {
    insta::assert_snapshot!(said("plugins describe dpo").result());
    let policy = said("plugins describe policy torch").result();
    assert!(policy.contains("\n  model: string, required\n"), "{policy}");
    assert!(policy.contains("\n  precision: \"auto\" | \"float32\" | \"bfloat16\"\n"), "{policy}");
    assert!(policy.contains("\n  shard_gb: number, default 5.0\n"), "{policy}");
    assert!(policy.contains("\n  training.tower: boolean, default false\n"), "{policy}");
    let video = said("plugins describe ffmpeg").result();
    assert!(video.contains("\n  sampling.fps (rule = \"fps\"): number, default 1.0\n"), "{video}");
}

#[test]
fn a_description_as_json_has_the_schema() {
    let text = said("plugins describe dpo --json").result();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&object["kind"], &object["name"]), (&"objective".into(), &"dpo".into()));
    assert_eq!(object["schema"]["properties"]["beta"]["type"], "number");
    assert!(object["example"].is_string());
}

#[test]
fn what_is_not_there_is_named_with_the_nearest_thing_that_is() {
    insta::assert_snapshot!(said("plugins describe judge sefl").all(), @r"
    exit code 2
    error: there is no component `sefl` of kind `judge`
    hint: did you mean `self`?
    ");
    insta::assert_snapshot!(said("plugins describe jugde self").all(), @r#"
    exit code 2
    error: there is no kind `jugde`; did you mean `judge`? kinds are data, video, encoder, policy, sampler, retrospector, judge, objective, selection, evaluator, demonstrations, preferences, observers
    "#);
    insta::assert_snapshot!(said("plugins describe zebra").all(), @r"
    exit code 2
    error: there is no component `zebra`
    hint: `isr plugins list` lists all
    ");
    let ambiguous = said("plugins describe self").all();
    assert!(ambiguous.contains("hint: give the kind too"), "{ambiguous}");
}
