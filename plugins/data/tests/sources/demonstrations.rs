//! Demonstrations in the layouts of datasets and trainers.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use isr_api::{BuildContext, Demonstration, Demonstrations};
use isr_config::registry::DemonstrationsConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::wait;

fn folder_of(rows: &[Value]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.mp4"), "a").unwrap();
    fs::write(folder.path().join("list.json"), Value::from(rows).to_string()).unwrap();
    folder
}

fn source(folder: &Path, section: &str) -> Arc<dyn Demonstrations> {
    let text = format!("type = \"files\"\n{section}").replace("DIR", &folder.to_string_lossy());
    let value: Value = toml::from_str(&text).unwrap();
    let config: Box<dyn DemonstrationsConfig> = serde_json::from_value(value).unwrap();
    config.validate().unwrap();
    config.build(&BuildContext::default()).unwrap()
}

fn all(source: &dyn Demonstrations) -> Vec<Demonstration> {
    wait(async {
        let mut all = Vec::new();
        for index in 0..source.count().await.unwrap() {
            all.push(source.get(index).await.unwrap());
        }
        assert!(source.get(all.len() as u64).await.is_err());
        all
    })
}

/// Whether there is a video, number of earlier turns, prompt, answer.
fn texts(demonstration: &Demonstration) -> (bool, usize, &str, &str) {
    let Demonstration { video, turns, prompt, answer, .. } = demonstration;
    (video.is_some(), turns.len(), prompt, answer)
}

fn said(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

#[test]
fn each_turn_of_the_assistant_is_a_demonstration_after_the_turns_before_it() {
    let llava = json!({ "id": "x", "video": "a.mp4", "system": "Be short.", "conversations": [
        { "from": "human", "value": "<video>\nWho?" }, { "from": "gpt", "value": "A." },
        { "from": "human", "value": "Where?" }, { "from": "gpt", "value": "There." },
        { "from": "human", "value": "Nobody answers this." },
    ] });
    let folder = folder_of(&[llava]);
    let source = source(folder.path(), "path = \"DIR/list.json\"");
    let read = all(&*source);
    assert_eq!(texts(&read[0]), (true, 1, "Who?", "A."));
    assert_eq!(texts(&read[1]), (true, 3, "Where?", "There."));
    assert_eq!(read.len(), 2);
    assert!(read[1].id.ends_with("list.json:1, turn 5"), "{}", read[1].id);
    let corpus = wait(source.corpus()).unwrap();
    assert_eq!(corpus, ["Be short.", "Who?", "A.", "Where?", "There."]);
}

#[test]
fn each_layout_is_detected_and_read() {
    let swift =
        json!({ "messages": [said("user", "<video>Who?"), said("assistant", "A.")], "videos": ["a.mp4"] });
    let plain = json!({ "prompt": "Who?", "completion": "A.", "video": "a.mp4" });
    let chat = json!({
        "prompt": [{ "role": "user", "content": [{ "type": "video" }, { "type": "text", "text": "Who?" }] }],
        "completion": [said("assistant", "A.")], "videos": ["a.mp4"]
    });
    for row in [swift, plain, chat] {
        let folder = folder_of(std::slice::from_ref(&row));
        let read = all(&*source(folder.path(), "path = \"DIR/list.json\""));
        assert_eq!(texts(&read[0]), (true, 0, "Who?", "A."), "{row}");
    }
    let folder = folder_of(&[json!({ "q": "Who?", "a": ["A."], "clip": "a.mp4" })]);
    let columns = "columns = { prompt = \"q\", answer = \"a.0\", video = \"clip\" }";
    let read = all(&*source(folder.path(), &format!("path = \"DIR/list.json\"\n{columns}")));
    assert_eq!(texts(&read[0]), (true, 0, "Who?", "A."));
}

#[test]
fn rows_that_cannot_be_used_say_why_and_the_others_are_read() {
    let row = |messages: Value| json!({ "messages": messages });
    let folder = folder_of(&[
        row(json!([said("user", "Who?"), said("assistant", "A.")])),
        row(json!([said("user", "Who?")])),
        row(json!([said("user", "Who?"), said("assistant", " ")])),
        row(json!([said("assistant", "Hello."), said("user", "Who?"), said("assistant", "A.")])),
        row(json!([said("user", "<video>Who?"), said("assistant", "A.")])),
        row(json!([said("user", "Who?"), said("tool", "{}"), said("assistant", "A.")])),
        row(json!([said("user", "Who?"), said("assistant", "A <image>.")])),
    ]);
    let source = source(folder.path(), "path = \"DIR/list.json\"\nlayout = \"ms_swift\"");
    assert_eq!(all(&*source).len(), 1);
    let reasons: Vec<String> = wait(source.unusable()).unwrap().into_iter().map(|row| row.reason).collect();
    insta::assert_snapshot!(reasons.join("\n"), @r"
    `messages` has no assistant turn
    turn 2 of `messages` is empty
    turn 1 of `messages` answers no user turn
    `messages` has a marker of media, and the row names no video or image
    `messages[1]` has the role `tool`; system, user (human) and assistant (gpt) are supported
    turn 2 of `messages` has the marker `<image>` inside its text; one may stand before or behind the first question
    ");
}
