//! LLaVA-Hound's layouts, recognised and named.

use std::path::Path;

use crate::support::{config, evaluation, folder_with, training};

fn jsonl(layout: &str) -> String {
    format!(
        "type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"\nevaluation = \"DIR/train.jsonl\"\n\
         video_root = \"root\"\nlayout = \"{layout}\""
    )
}

#[test]
fn each_layout_is_recognised_and_says_the_same() {
    for line in [
        r#"{"id": "a", "video": "v/1.mp4", "prompt": "<video>\nwhat?", "answer": "this", "chosen": "x", "rejected": "y"}"#,
        r#"{"id": "a", "video": "v/1.mp4", "conversations": [{"from": "human", "value": "what?\n<video>"}, {"from": "gpt", "value": "this"}]}"#,
        r#"{"id": "a", "video": "v/1.mp4", "question": "what?", "answer": "this"}"#,
        r#"{"question_id": "a", "video_name": "v/1.mp4", "question": "what?", "answer": "this"}"#,
    ] {
        let folder = folder_with(line);
        let samples = evaluation(folder.path(), &jsonl("auto")).unwrap();
        let sample = &samples[0].sample;
        assert_eq!((sample.id.as_str(), sample.instruction.as_str()), ("a", "what?"), "{line}");
        assert_eq!((sample.video.as_path(), &*samples[0].reference), (Path::new("root/v/1.mp4"), "this"));
    }
}

#[test]
fn one_list_may_mix_layouts_and_ids_may_be_numbers() {
    let folder = folder_with(concat!(
        r#"{"id": "a", "video": "1", "prompt": "one?", "facts": {"n": 1}}"#,
        "\n\n",
        r#"{"id": 2, "video": "/abs/2", "conversations": [{"from": "human", "value": "two?"}]}"#,
    ));
    let samples = training(folder.path(), "type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"").unwrap();
    let ids: Vec<_> = samples.iter().map(|sample| (sample.id.as_str(), &*sample.instruction)).collect();
    assert_eq!(ids, [("a", "one?"), ("2", "two?")]);
    assert_eq!(samples[1].video, Path::new("/abs/2"));
}

#[test]
fn facts_reach_the_evaluator() {
    let folder =
        folder_with(r#"{"id": "a", "video": "1", "prompt": "one?", "answer": "yes", "facts": {"n": 1}}"#);
    let samples = evaluation(folder.path(), &jsonl("auto")).unwrap();
    assert_eq!(samples[0].facts["n"], 1);
}

#[test]
fn what_could_be_two_layouts_must_be_named() {
    let line = r#"{"id": "a", "video": "1", "prompt": "from here?", "question": "or here?"}"#;
    let folder = folder_with(line);
    let list = |layout: &str| jsonl(layout).replace("evaluation = \"DIR/train.jsonl\"\n", "");
    let reason =
        "it has both `prompt` and `question`; say which counts by layout = \"dpo\" or layout = \"qa\"";
    let outcome = training(folder.path(), &list("auto"));
    assert_eq!(outcome.unwrap_err(), format!("DIR/train.jsonl:1: {reason}"));
    assert_eq!(training(folder.path(), &list("dpo")).unwrap()[0].instruction, "from here?");
    assert_eq!(training(folder.path(), &list("qa")).unwrap()[0].instruction, "or here?");
    let outcome = training(folder.path(), &list("train"));
    assert_eq!(outcome.unwrap_err(), "DIR/train.jsonl:1: `conversations` is missing");
}

#[test]
fn a_conversation_without_a_question_is_refused() {
    for (turns, reason) in [
        ("3", "`conversations` is no list of turns"),
        ("[]", "`conversations` has no turn {\"from\": \"human\", \"value\": ...}"),
        (
            r#"[{"from": "gpt", "value": "x"}]"#,
            "`conversations` has no turn {\"from\": \"human\", \"value\": ...}",
        ),
    ] {
        let folder = folder_with(&format!(r#"{{"id": "a", "video": "1", "conversations": {turns}}}"#));
        let outcome = training(folder.path(), "type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"");
        assert_eq!(outcome.unwrap_err(), format!("DIR/train.jsonl:1: {reason}"));
    }
}

#[test]
fn a_layout_beside_columns_is_refused() {
    let folder = folder_with("");
    let toml = jsonl("qa").replace("\"root\"", "\"DIR\"");
    let config = config(folder.path(), &format!("{toml}\ncolumns = {{}}"));
    assert_eq!(config.validate().unwrap_err(), "layout is set beside columns; leave out one of them");
}
