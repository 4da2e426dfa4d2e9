//! What every list must be.

use std::path::Path;

use crate::support::{config, evaluation, folder_with, source, training, wait};

const TRAIN: &str = r#"{"id": "a", "video": "1.mp4", "prompt": "what?", "answer": "not for training"}"#;
const HELD_OUT: &str = r#"{"id": "b", "video": "2.mp4", "prompt": "what?", "answer": "this"}"#;
const BOTH: &str = r#"
type = "jsonl"
training = "DIR/train.jsonl"
evaluation = "DIR/evaluation.jsonl"
video_root = "videos"
"#;

const ONE: &str = "type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"";

fn folder(training: &str, evaluation: &str) -> tempfile::TempDir {
    let folder = folder_with(training);
    std::fs::write(folder.path().join("evaluation.jsonl"), evaluation).unwrap();
    folder
}

#[test]
fn lists_are_read_and_training_sees_no_answer() {
    let folder = folder(TRAIN, HELD_OUT);
    let samples = training(folder.path(), BOTH).unwrap();
    assert_eq!(samples[0].video, Path::new("videos/1.mp4"));
    assert!(!format!("{samples:?}").contains("not for training"));
    assert_eq!(evaluation(folder.path(), BOTH).unwrap()[0].reference, "this");
    assert!(wait(source(folder.path(), BOTH).audit()).unwrap().is_empty());
}

#[test]
fn videos_lie_beside_the_list_unless_told_otherwise() {
    let folder = folder_with(TRAIN);
    let samples = training(folder.path(), "type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"").unwrap();
    assert_eq!(samples[0].video, folder.path().join("1.mp4"));
}

#[test]
fn a_shared_video_is_refused_before_the_run() {
    let folder = folder(TRAIN, &HELD_OUT.replace("2.mp4", "1.mp4"));
    let message = training(folder.path(), BOTH).unwrap_err();
    assert!(message.contains("share the video videos/1.mp4"), "{message}");
}

#[test]
fn an_unanswered_sample_of_an_evaluation_list_is_named() {
    let folder = folder(TRAIN, r#"{"id": "b", "video": "2", "prompt": "what?"}"#);
    let message = training(folder.path(), BOTH).unwrap_err();
    assert!(message.starts_with("DIR/evaluation.jsonl: sample `b` has no `answer`"), "{message}");
}

#[test]
fn a_list_that_is_not_there_is_named_with_what_is() {
    let folder = folder_with(TRAIN);
    let config = config(folder.path(), "type = \"jsonl\"\ntraining = \"DIR/tarin.jsonl\"");
    let message = config.validate().unwrap_err();
    assert!(message.starts_with("training is ") && message.contains("did you mean "), "{message}");
    let missing = training(folder.path(), "type = \"jsonl\"\ntraining = \"DIR/tarin.jsonl\"").unwrap_err();
    assert!(missing.starts_with("cannot read DIR/tarin.jsonl: "), "{missing}");
}

#[test]
fn a_bad_line_is_named_with_file_line_and_reason() {
    let good = r#"{"id": "a", "video": "v", "prompt": "p"}"#;
    for (bad, reason) in [
        ("{", "no valid JSON: EOF while parsing an object at line 1 column 1"),
        ("[", "no valid JSON: EOF while parsing a list at line 1 column 1"),
        ("[1]", "expected a JSON object with `id`, `video` and `prompt`"),
        (r#"{"id": "b", "prompt": "p"}"#, "`video` is missing"),
        (r#"{"id": "b", "vidoe": "v", "prompt": "p"}"#, "`video` is missing; did you mean it by `vidoe`?"),
        (r#"{"video": "v", "prompt": "p"}"#, "`id` is missing"),
        (r#"{"id": "b", "video": "v", "promt": "p"}"#, "`prompt` is missing; did you mean it by `promt`?"),
        (r#"{"id": "b", "video": "v", "prompt": 3}"#, "`prompt` is 3; expected a text"),
        (r#"{"id": "b", "video": "v", "prompt": "<video>"}"#, "`prompt` says nothing"),
        (r#"{"id": "b", "video": "", "prompt": "p"}"#, "`video` is empty"),
        (good, "id `a` is also on line 1; ids must be unique"),
    ] {
        let folder = folder_with(&format!("{good}\n\n{bad}\n"));
        let outcome = training(folder.path(), "type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"");
        assert_eq!(outcome, Err(format!("DIR/train.jsonl:3: {reason}")));
    }
}

#[test]
fn arrays_and_files_of_other_systems_are_lists_as_well() {
    let second = TRAIN.replace("\"a\"", "\"b\"");
    let expected = training(folder_with(&format!("{TRAIN}\n{second}\n")).path(), ONE).unwrap();
    let pretty: Vec<serde_json::Value> =
        [TRAIN, &second].map(|row| serde_json::from_str(row).unwrap()).to_vec();
    for list in [
        format!("[{TRAIN},{second}]"),
        format!("\u{feff}[\n{TRAIN},\r\n{second}\r\n]\r\n"),
        serde_json::to_string_pretty(&pretty).unwrap(),
        format!("\u{feff}{TRAIN}\r\n\r\n{second}"),
    ] {
        let folder = folder_with(&list);
        let samples = training(folder.path(), ONE).unwrap();
        let ids = |samples: &[isr_api::Sample]| samples.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&samples), ids(&expected), "{list}");
    }
    let message = |list: &str| training(folder_with(list).path(), ONE).unwrap_err();
    assert!(
        message("[\n{\"id\": \"a\"}\n]").starts_with("DIR/train.jsonl:2: `"),
        "an element has its line"
    );
    assert_eq!(message(&format!("[{TRAIN}")), "DIR/train.jsonl:1: the JSON array has no end");
    let folder = folder_with("");
    let utf_16: Vec<u8> = TRAIN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.path().join("train.jsonl"), utf_16).unwrap();
    assert!(training(folder.path(), ONE).unwrap_err().starts_with("DIR/train.jsonl: it is UTF-16 text"));
}

#[test]
fn another_spelling_of_a_path_is_the_same_video() {
    for video in ["./1.mp4", "x/../1.mp4", ".//1.mp4"] {
        let folder = folder(TRAIN, &HELD_OUT.replace("2.mp4", video));
        let message = training(folder.path(), BOTH).unwrap_err();
        assert!(message.contains("share the video videos/"), "{video}: {message}");
    }
}

#[test]
fn a_line_that_is_no_text_is_named() {
    let folder = folder_with("");
    let bytes = [TRAIN.as_bytes(), b"\n\xff\xfe\n"].concat();
    std::fs::write(folder.path().join("train.jsonl"), bytes).unwrap();
    let outcome = training(folder.path(), "type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"");
    assert_eq!(outcome.unwrap_err(), "DIR/train.jsonl:2: it is not UTF-8 text");
}
