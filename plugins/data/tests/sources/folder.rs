//! Plain folders of videos.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{config, evaluation, training};

fn videos(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

fn asked(question: &str) -> String {
    format!("type = \"folder\"\npath = \"DIR\"\nquestion = \"{question}\"")
}

#[test]
fn each_video_is_a_sample_in_the_order_of_paths() {
    let folder =
        videos(&["b.MP4", "a/z.webm", "a/y.mkv", "notes.txt", ".hidden.mp4", ".git/x.mp4", "a.avi"]);
    let samples = training(folder.path(), &asked("What is {{ name }} in {{ folder }}?")).unwrap();
    let seen: Vec<_> = samples.iter().map(|it| (it.id.as_str(), it.instruction.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("a.avi", "What is a in ?"),
            ("a/y.mkv", "What is y in a?"),
            ("a/z.webm", "What is z in a?"),
            ("b.MP4", "What is b in ?"),
        ]
    );
    assert_eq!(samples[1].video, folder.path().join("a/y.mkv"));
}

#[cfg(unix)]
#[test]
fn a_folder_that_leads_back_to_itself_is_read_once() {
    let folder = videos(&["a/x.mp4"]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("a/x.mp4"), folder.path().join("linked.mp4")).unwrap();
    let samples = training(folder.path(), &asked("What?")).unwrap();
    assert_eq!(samples.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["a/x.mp4", "linked.mp4"]);
}

#[test]
fn the_default_question_asks_for_a_description() {
    let folder = videos(&["a.mp4"]);
    let samples = training(folder.path(), "type = \"folder\"\npath = \"DIR\"").unwrap();
    assert_eq!(samples[0].instruction, "Describe the video in detail.");
}

#[test]
fn a_question_that_cannot_be_asked_is_refused() {
    let folder = videos(&["a.mp4"]);
    for (question, message) in [
        (
            "{{ nane }}?",
            "question mentions `nane`; did you mean `name`? it may mention `name`, `folder` and `path`",
        ),
        ("{{ colour }}?", "question mentions `colour`; it may mention `name`, `folder` and `path`"),
        (" ", "question is empty; it must ask something"),
    ] {
        assert_eq!(config(folder.path(), &asked(question)).validate().unwrap_err(), message);
    }
    let message = config(folder.path(), &asked("{{ name")).validate().unwrap_err();
    assert!(message.starts_with("question does not render: syntax error"), "{message}");
}

#[test]
fn a_folder_without_videos_says_what_it_looked_for() {
    let folder = videos(&["a.txt"]);
    let message = training(folder.path(), &asked("What?")).unwrap_err();
    assert!(message.starts_with("DIR holds no video file (mp4, "), "{message}");
    let file = config(folder.path(), "type = \"folder\"\npath = \"DIR/a.txt\"").validate().unwrap_err();
    assert!(file.ends_with("a.txt, which is no folder"), "{file}");
    let absent = config(folder.path(), "type = \"folder\"\npath = \"DIR/b.txt\"").validate().unwrap_err();
    assert!(absent.contains("which does not exist; did you mean "), "{absent}");
}

#[test]
fn a_held_out_list_goes_with_it_and_shares_no_video() {
    let folder = videos(&["train/a.mp4"]);
    let list = folder.path().join("held.jsonl");
    let toml = "type = \"folder\"\npath = \"DIR/train\"\nevaluation = \"DIR/held.jsonl\"";
    let line =
        |video: &str| format!(r#"{{"id": 1, "video": "{video}", "question": "q", "answer": "yes"}}"#);
    fs::write(&list, line("b.mp4")).unwrap();
    assert_eq!(training(folder.path(), toml).unwrap().len(), 1);
    assert_eq!(evaluation(folder.path(), toml).unwrap()[0].sample.video, folder.path().join("b.mp4"));
    fs::write(&list, line("train/a.mp4")).unwrap();
    let message = training(folder.path(), toml).unwrap_err();
    assert!(message.contains("share the video DIR/train/a.mp4"), "{message}");
    assert!(Path::new(&list).exists());
}
