//! Damage of a run directory is an error that names file and line, and never taken for a result.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isr_api::{Error, Event, Observer, Stage};
use tempfile::TempDir;

use crate::bench::{Settings, assert_same, run, run_under, scratch, tree};
use crate::control::{Act, Call, Control};

/// Journals whose lines a stage has ended with.
const JOURNALS: [&str; 7] = [
    "iteration-00/evaluation.jsonl",
    "iteration-01/responses.jsonl",
    "iteration-01/contexts.jsonl",
    "iteration-01/verdicts.jsonl",
    "iteration-01/pairs.jsonl",
    "iteration-01/metrics.jsonl",
    "iteration-01/evaluation.jsonl",
];

fn settings(iterations: u32) -> Settings {
    let mut settings = Settings::default();
    settings.r#loop.iterations = iterations;
    settings
}

/// A complete run of one iteration, which is to be extended.
async fn complete() -> TempDir {
    let dir = scratch();
    run(dir.path(), &settings(1)).await.unwrap();
    dir
}

/// A run that was cut while it evaluated the policy of its first iteration.
async fn cut_while_evaluating() -> TempDir {
    let dir = scratch();
    let trained = AtomicBool::new(false);
    let rule = move |call: &Call<'_>| match call.name {
        "save" => {
            trained.store(true, Ordering::Relaxed);
            Act::Work
        }
        name if name.starts_with("generate") && trained.load(Ordering::Relaxed) => Act::Cancelled,
        _ => Act::Work,
    };
    run_under(dir.path(), &settings(2), &Arc::new(Control::with(rule))).await.unwrap_err();
    assert!(dir.path().join("iteration-01/checkpoint").exists());
    assert!(!dir.path().join("iteration-01/evaluation.json").exists());
    dir
}

/// Changes the lines of a file; returns its path.
fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut Vec<String>)) -> PathBuf {
    let path = dir.join(name);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    path
}

/// The reason for which a run is refused, which changes no file.
async fn refusal(dir: &Path, path: &Path, iterations: u32) -> String {
    // The config says of how many iterations.
    let results = || {
        let mut results = tree(dir);
        results.remove("config.toml");
        // Stages before the damaged one are marked where they were not.
        results.remove("iteration-01/stages.json");
        results
    };
    let before = results();
    match run(dir, &settings(iterations)).await.unwrap_err() {
        Error::Damaged { path: named, reason } => {
            assert_eq!(named, path);
            assert_same(&before, &results(), "a refused run");
            reason
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_line_that_is_doubled_lost_or_changed_after_its_stage_is_an_error() {
    for name in JOURNALS {
        let (doubled, lost, changed) = (complete().await, complete().await, complete().await);
        let mut count = 0;
        let path = edit(doubled.path(), name, |lines| {
            count = lines.len();
            lines.insert(1, lines[0].clone());
        });
        let reason = refusal(doubled.path(), &path, 2).await;
        assert_eq!(
            reason,
            format!("line 2 repeats line 1, and the stage ended with {count} lines"),
            "{name}"
        );

        let path = edit(lost.path(), name, |lines| drop(lines.remove(0)));
        let reason = refusal(lost.path(), &path, 2).await;
        assert!(reason.contains("line") && reason.contains("ended with"), "{name}: {reason}");

        let path = edit(changed.path(), name, |lines| lines[0] = lines[0].replacen('"', " \"", 1));
        let reason = refusal(changed.path(), &path, 2).await;
        assert_eq!(reason, "line 1 is not the one that was written", "{name}");
    }
}

#[tokio::test]
async fn lines_lost_behind_a_finished_training_are_not_made_anew_with_the_trained_weights() {
    for marks in [true, false] {
        for name in
            ["iteration-01/responses.jsonl", "iteration-01/contexts.jsonl", "iteration-01/verdicts.jsonl"]
        {
            let dir = cut_while_evaluating().await;
            if !marks {
                // As versions without marks have left it.
                fs::remove_file(dir.path().join("iteration-01/stages.json")).unwrap();
            }
            let path = edit(dir.path(), name, |lines| drop(lines.pop()));
            let reason = refusal(dir.path(), &path, 2).await;
            let says = if marks { "it ends after line" } else { "training after them is finished" };
            assert!(reason.contains(says), "{name}: {reason}");
        }
    }
}

#[tokio::test]
async fn pairs_that_a_finished_training_did_not_use_are_an_error() {
    for marks in [true, false] {
        let dir = cut_while_evaluating().await;
        if !marks {
            fs::remove_file(dir.path().join("iteration-01/stages.json")).unwrap();
        }
        let path = edit(dir.path(), "iteration-01/pairs.jsonl", |lines| lines.swap(0, 1));
        let reason = refusal(dir.path(), &path, 2).await;
        assert!(reason.contains("line 1"), "{reason}");
    }
}

#[tokio::test]
async fn a_doubled_line_of_a_stage_that_is_not_through_counts_once_as_an_error() {
    let dir = scratch();
    let rule = |call: &Call<'_>| if call.name.starts_with("judge") { Act::Cancelled } else { Act::Work };
    run_under(dir.path(), &settings(2), &Arc::new(Control::with(rule))).await.unwrap_err();
    let marks = dir.path().join("iteration-01/stages.json");
    fs::remove_file(marks).unwrap();
    let doubled = "line 9 is a second result of `s2`, after line 3";
    let path = edit(dir.path(), "iteration-01/responses.jsonl", |lines| lines.push(lines[2].clone()));
    assert_eq!(refusal(dir.path(), &path, 2).await, doubled);
    let path = edit(dir.path(), "iteration-01/responses.jsonl", |lines| {
        lines.truncate(8);
        lines.swap(3, 4);
    });
    assert_eq!(refusal(dir.path(), &path, 2).await, "line 5, of `s3`, should stand further up");
    let path = edit(dir.path(), "iteration-01/responses.jsonl", |lines| {
        lines.swap(3, 4);
        lines[7] = lines[7].replace("\"s7\"", "\"x\"");
    });
    assert_eq!(refusal(dir.path(), &path, 2).await, "line 8 is of `x`, which is not among its items");
    let path = edit(dir.path(), "iteration-01/responses.jsonl", |lines| {
        lines[7] = lines[7].replace("\"x\"", "\"s7\"");
        lines.remove(2);
    });
    assert_eq!(
        refusal(dir.path(), &path, 2).await,
        "the line of `s2` is missing, and later ones are there"
    );
}

#[tokio::test]
async fn a_doubled_held_out_sample_is_not_evaluated_twice() {
    let dir = cut_while_evaluating().await;
    let path = dir.path().join("iteration-00/evaluation.jsonl");
    edit(dir.path(), "iteration-00/evaluation.jsonl", |lines| lines.push(lines[0].clone()));
    let reason = refusal(dir.path(), &path, 2).await;
    assert_eq!(reason, "line 4 repeats line 1, and the stage ended with 3 lines");
}

#[tokio::test]
async fn a_checkpoint_of_other_weights_is_an_error() {
    for marks in [true, false] {
        let (dir, other) = (complete().await, scratch());
        let mut elsewhere = settings(1);
        elsewhere.seed += 1;
        run(other.path(), &elsewhere).await.unwrap();
        let weights = "iteration-01/checkpoint/weights.json";
        fs::copy(other.path().join(weights), dir.path().join(weights)).unwrap();
        if !marks {
            fs::remove_file(dir.path().join("iteration-01/stages.json")).unwrap();
        }
        let path = dir.path().join("iteration-01/checkpoint");
        let reason = refusal(dir.path(), &path, 2).await;
        assert!(reason.contains("the training of iteration 1 ended with"), "{reason}");
    }
}

#[tokio::test]
async fn a_run_without_marks_goes_on_to_the_same_bytes() {
    let (whole, dir) = (scratch(), scratch());
    run(whole.path(), &settings(2)).await.unwrap();
    run(dir.path(), &settings(1)).await.unwrap();
    fs::remove_file(dir.path().join("iteration-00/stages.json")).unwrap();
    fs::remove_file(dir.path().join("iteration-01/stages.json")).unwrap();
    run(dir.path(), &settings(2)).await.unwrap();
    let mut marked = tree(whole.path());
    // Iterations that were complete have no marks; everything else is equal.
    marked.remove("iteration-00/stages.json");
    marked.remove("iteration-01/stages.json");
    assert_same(&marked, &tree(dir.path()), "without marks");
}

/// Removes or moves the run directory once a stage is through.
struct Removes(PathBuf, Option<PathBuf>);

impl Observer for Removes {
    fn observe(&self, event: &Event<'_>) {
        if matches!(event, Event::StageFinished { iteration: 1, stage: Stage::Respond, .. }) {
            match &self.1 {
                Some(to) => fs::rename(&self.0, to).unwrap(),
                None => fs::remove_dir_all(&self.0).unwrap(),
            }
        }
    }
}

#[tokio::test]
async fn a_run_whose_directory_is_removed_or_moved_fails() {
    for moved in [false, true] {
        let parent = scratch();
        let (dir, to) = (parent.path().join("run"), parent.path().join("moved"));
        let observer = Arc::new(Removes(dir.clone(), moved.then(|| to.clone())));
        let settings = Settings { observers: vec![observer], ..settings(1) };
        let error = run(&dir, &settings).await.unwrap_err();
        assert!(matches!(&error, Error::Removed { path } if *path == dir), "{error}");
        assert!(!dir.exists());
    }
}
