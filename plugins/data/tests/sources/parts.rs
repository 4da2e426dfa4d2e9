//! Rows about a part of a video.

use std::fs;
use std::path::Path;

use isr_api::BuildContext;
use isr_config::registry::{DemonstrationsConfig, PreferencesConfig};
use serde_json::{Value, json};

use crate::support::{folder_with, training, wait};

fn names(videos: impl IntoIterator<Item = std::path::PathBuf>) -> Vec<String> {
    let name = |video: std::path::PathBuf| video.file_name().unwrap().to_string_lossy().into_owned();
    videos.into_iter().map(name).collect()
}

#[test]
fn samples_of_a_list() {
    let rows = [
        json!({ "id": 1, "video": "a.mp4", "prompt": "x", "start": 3.5, "end": 10 }),
        json!({ "id": 2, "video": "a.mp4", "prompt": "x", "end": "4.25" }),
        json!({ "id": 3, "video": "a.mp4", "prompt": "x", "start": null, "end": null }),
        json!({ "id": 4, "video": "a.mp4#t=1,2", "prompt": "x" }),
        // The reader refuses it, and the sample is quarantined.
        json!({ "id": 5, "video": "a.mp4", "prompt": "x", "start": 7, "end": 3 }),
    ];
    let list = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let read = |text: &str, more: &str| {
        let folder = folder_with(text);
        let toml = format!("type = \"jsonl\"\ntraining = \"DIR/train.jsonl\"\n{more}");
        training(folder.path(), &toml).map(|samples| names(samples.into_iter().map(|it| it.video)))
    };
    let parts = ["a.mp4#t=3.5,10", "a.mp4#t=0,4.25", "a.mp4", "a.mp4#t=1,2", "a.mp4#t=7,3"];
    assert_eq!(read(&list(&rows), "").unwrap(), parts);
    let mapped = json!({ "video": "a.mp4", "instruction": "x", "clip": [2, 8.5] });
    let columns = "columns = { start = \"clip.0\", end = \"clip.1\" }";
    assert_eq!(read(&mapped.to_string(), columns).unwrap(), ["a.mp4#t=2,8.5"]);
    for (row, reason) in [
        (
            json!({ "id": 1, "video": "a.mp4", "prompt": "x", "start": "soon" }),
            "its start is \"soon\"; expected seconds",
        ),
        (
            json!({ "id": 1, "video": "a.mp4#t=1,2", "prompt": "x", "end": 3 }),
            "names a part, `#t=1,2`, and start or end",
        ),
    ] {
        let message = read(&row.to_string(), "").unwrap_err();
        assert!(message.starts_with("DIR/train.jsonl:1: ") && message.contains(reason), "{message}");
    }
}

/// Rows with a video `a.mp4`, written beside it.
fn files(rows: &[Value]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.mp4"), "a").unwrap();
    fs::write(folder.path().join("list.json"), Value::from(rows).to_string()).unwrap();
    let path = folder.path().join("list.json").display().to_string();
    (folder, path)
}

fn config<T: serde::de::DeserializeOwned>(path: &Path, columns: &Value) -> T {
    let mut config = json!({ "type": "files", "path": path });
    if !columns.is_null() {
        config["columns"] = columns.clone();
    }
    serde_json::from_value(config).unwrap()
}

#[test]
fn preference_pairs() {
    let row = |more: Value| {
        let mut row = json!({ "video": "a.mp4", "prompt": "x", "chosen": "y", "rejected": "z" });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let read = |rows: &[Value], columns: Value| {
        let (_folder, path) = files(rows);
        let config: Box<dyn PreferencesConfig> = config(path.as_ref(), &columns);
        wait(config.build(&BuildContext::default()).unwrap().rows()).unwrap()
    };
    let rows =
        read(&[row(json!({ "start": 1, "end": 2.5 })), row(json!({ "start": 2, "end": 1 }))], Value::Null);
    assert_eq!(names(rows[0].clone().unwrap().video), ["a.mp4#t=1,2.5"]);
    let reason = rows[1].clone().unwrap_err().reason;
    assert_eq!(reason, "its end, 1 s, is not behind its start, 2 s");
    let columns = json!({ "video": "video", "start": "from" });
    let rows = read(&[row(json!({ "from": 4 }))], columns);
    assert_eq!(names(rows[0].clone().unwrap().video), ["a.mp4#t=4"]);
}

#[test]
fn demonstrations() {
    let rows = [
        json!({ "video": "a.mp4", "prompt": "x", "completion": "y", "start": 1, "end": 2.5 }),
        json!({ "video": "gone.mp4", "prompt": "x", "completion": "y", "end": 2.5 }),
        json!({ "prompt": "x", "completion": "y", "end": 2.5 }),
    ];
    let (_folder, path) = files(&rows);
    let config: Box<dyn DemonstrationsConfig> = config(path.as_ref(), &Value::Null);
    let source = config.build(&BuildContext::default()).unwrap();
    assert_eq!(names(wait(source.get(0)).unwrap().video), ["a.mp4#t=1,2.5"]);
    assert_eq!(wait(source.get(1)).unwrap().video, None, "text alone");
    assert!(wait(source.unusable()).unwrap()[0].reason.contains("gone.mp4, which does not exist"));
}
