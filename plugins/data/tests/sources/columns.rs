//! Lists with any keys, by a column map.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use crate::support::{config, evaluation, folder_with, training};

fn mapped(columns: &str) -> String {
    format!(
        "type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"\nvideo_root = \"root\"\ncolumns = {{ {columns} }}"
    )
}

#[test]
fn columns_are_found_by_the_map() {
    let folder = folder_with(
        r#"{"key": 7, "clip": {"path": "a.mp4", "bytes": null}, "messages": [{"content": "what?"}], "gold": "this"}"#,
    );
    let toml =
        mapped("id = \"key\", video = \"clip\", instruction = \"messages.0.content\", answer = \"gold\"");
    let samples = training(folder.path(), &toml).unwrap();
    assert_eq!((samples[0].id.as_str(), &*samples[0].instruction), ("7", "what?"));
    assert_eq!(samples[0].video, Path::new("root/a.mp4"));
    let held_out = evaluation(folder.path(), &format!("{toml}\nevaluation = \"DIR/train.jsonl\"")).unwrap();
    assert_eq!(held_out[0].reference, "this");
}

#[test]
fn without_an_id_column_samples_are_numbered() {
    let folder = folder_with("{\"video\": \"a\", \"q\": \"x\"}\n\n{\"video\": \"a\", \"q\": \"y\"}\n");
    let samples = training(folder.path(), &mapped("instruction = \"q\"")).unwrap();
    assert_eq!(samples.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn training_needs_no_answer_column_and_evaluation_does() {
    let folder = folder_with(r#"{"video": "a", "instruction": "x", "anwser": "y"}"#);
    assert_eq!(training(folder.path(), &mapped("")).unwrap().len(), 1);
    let toml = format!("{}\nevaluation = \"DIR/train.jsonl\"", mapped(""));
    let message = evaluation(folder.path(), &toml).unwrap_err();
    assert_eq!(message, "DIR/train.jsonl:1: there is no column `answer`; did you mean `anwser`?");
}

#[test]
fn a_column_that_cannot_be_read_is_named() {
    let row = json!({"video": {"bytes": "AAAA"}, "question": "x", "n": 3, "none": null, "path": "v"});
    let folder = folder_with(&row.to_string());
    for (columns, reason) in [
        (
            "instruction = \"qestion\", video = \"path\"",
            "there is no column `qestion`; did you mean `question`?",
        ),
        (
            "instruction = \"prompt\", video = \"path\"",
            "there is no column `prompt`; there are `video`, `question`, `n`, `none`, `path`",
        ),
        ("instruction = \"n\", video = \"path\"", "`n` is 3; expected a text"),
        ("instruction = \"none\", video = \"path\"", "`none` is empty"),
        (
            "instruction = \"question\"",
            "`video` holds a video's bytes and no path; write the videos to files, and their paths into \
             the list",
        ),
        ("instruction = \"question\", video = \"path\", id = \"none\"", "`none` is empty"),
    ] {
        let outcome = training(folder.path(), &mapped(columns));
        assert_eq!(outcome.unwrap_err(), format!("DIR/train.jsonl:1: {reason}"));
    }
}

#[test]
fn a_map_to_nothing_is_refused() {
    let folder = folder_with("");
    for (columns, message) in [
        ("video = \"\"", "columns.video is \"\"; it must name a column"),
        ("id = \"a..b\"", "columns.id is \"a..b\"; it must name a column"),
    ] {
        let toml = mapped(columns).replace("\"root\"", "\"DIR\"");
        assert_eq!(config(folder.path(), &toml).validate().unwrap_err(), message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the texts are, what was written is read, but for white space around an instruction.
    #[test]
    fn what_was_written_is_read(texts in prop::collection::vec("[^\\s<>\\x00]{1,12}", 3)) {
        let row = json!({"k": texts[0], "v": texts[1], "q": format!(" {}\n", texts[2])});
        let folder = folder_with(&row.to_string());
        let toml = mapped("id = \"k\", video = \"v\", instruction = \"q\"");
        let samples = training(folder.path(), &toml).unwrap();
        prop_assert_eq!(samples[0].id.as_str(), &texts[0]);
        prop_assert_eq!(&samples[0].video, &Path::new("root").join(&texts[1]));
        prop_assert_eq!(&samples[0].instruction, &texts[2]);
    }
}
