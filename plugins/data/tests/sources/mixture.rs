//! Several sources with weights.

use std::fs;

use crate::support::{config, evaluation, source, training, wait};

/// A folder with lists `a.jsonl` and `b.jsonl` of so many samples, each about a video of its own, and `held.jsonl`.
fn lists(a: usize, b: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, count) in [("a", a), ("b", b)] {
        let row = |index| {
            format!(
                "{{\"id\": {index}, \"video\": \"{name}{index}.mp4\", \"prompt\": \"x\", \"answer\": \"y\"}}\n"
            )
        };
        fs::write(folder.path().join(format!("{name}.jsonl")), (0..count).map(row).collect::<String>())
            .unwrap();
    }
    let held = "{\"id\": \"h\", \"video\": \"a0.mp4\", \"prompt\": \"x\", \"answer\": \"y\"}";
    fs::write(folder.path().join("held.jsonl"), held).unwrap();
    folder
}

fn mixture(weights: (f64, f64), b: &str, more: &str) -> String {
    format!(
        "type = \"mixture\"\n{more}\n[[sources]]\nname = \"first\"\nweight = {:?}\ndata = {{ type = \"jsonl\", training = \
         \"DIR/a.jsonl\", audit = \"DIR/a.jsonl\" }}\n[[sources]]\nweight = {:?}\ndata = {{ type = \"jsonl\", training = \"DIR/b.jsonl\"{b} }}",
        weights.0, weights.1
    )
}

fn ids(folder: &tempfile::TempDir, toml: &str) -> Result<Vec<String>, String> {
    Ok(training(folder.path(), toml)?.into_iter().map(|sample| sample.id.0).collect())
}

#[test]
fn shares_follow_weights_in_every_part() {
    let folder = lists(30, 100);
    let all = ids(&folder, &mixture((1.0, 3.0), "", "")).unwrap();
    let firsts = |part: &[String]| part.iter().filter(|id| id.starts_with("first:")).count();
    assert_eq!((all.len(), firsts(&all)), (120, 30), "no sample of the smaller one twice");
    assert!(all.chunks(20).all(|part| firsts(part) == 5), "{all:?}");
    assert!(all.iter().filter(|id| id.starts_with("2:")).count() == 90);
    let unique: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(unique.len(), all.len());
    assert_eq!(ids(&folder, &mixture((1.0, 3.0), "", "")).unwrap(), all, "the same each time");
    let other = ids(&folder, &mixture((1.0, 3.0), "", "seed = 1")).unwrap();
    assert!(other != all && other.len() == all.len());
    assert_eq!(firsts(&ids(&folder, &mixture((1.0, 1.0), "", "samples = 7")).unwrap()), 4);
    assert_eq!(ids(&lists(3, 3), &mixture((0.1, 0.1), "", "")).unwrap().len(), 6, "whole sources");
}

#[test]
fn more_samples_than_there_are_is_refused() {
    let message = ids(&lists(3, 9), &mixture((1.0, 1.0), "", "samples = 10")).unwrap_err();
    assert_eq!(
        message,
        "source `first` of the mixture has 3 samples, and 5 are its share of samples = 10; lower `samples` or its weight"
    );
    assert!(ids(&lists(0, 9), &mixture((1.0, 1.0), "", "")).unwrap_err().contains("has no sample"));
}

#[test]
fn held_out_and_audited_samples_have_the_names_of_their_sources() {
    let folder = lists(4, 4);
    let toml = mixture((1.0, 1.0), ", evaluation = \"DIR/held.jsonl\"", "samples = 4");
    let audited = wait(source(folder.path(), &toml).audit()).unwrap();
    assert!(audited.len() == 2 && audited.iter().all(|it| it.sample.id.as_str().starts_with("first:")));
    assert_eq!(evaluation(folder.path(), &toml).unwrap()[0].sample.id.as_str(), "2:h");
    // The video is one of the first source, of which all are taken.
    let toml = mixture((1.0, 1.0), ", evaluation = \"DIR/held.jsonl\"", "");
    let message = ids(&folder, &toml).unwrap_err();
    assert!(message.starts_with("the held-out sample `2:h` is about DIR/a0.mp4"), "{message}");
}

#[test]
fn settings_are_checked() {
    let folder = lists(1, 1);
    let invalid = |toml: &str| config(folder.path(), toml).validate().unwrap_err();
    assert!(invalid(&mixture((0.0, 1.0), "", "")).contains("sources[0].weight"));
    assert!(invalid(&mixture((1.0, 1.0), "", "samples = 0")).contains("samples must be at least 1"));
    assert!(invalid("type = \"mixture\"\nsources = []").contains("sources is empty"));
    let twice = mixture((1.0, 1.0), "", "").replace("name = \"first\"", "name = \"2\"");
    assert!(invalid(&twice).contains("sources[1].name is \"2\""));
    let gone = mixture((1.0, 1.0), "", "").replace("b.jsonl", "gone.jsonl");
    assert!(invalid(&gone).starts_with("sources[1].data (jsonl): training is "), "{}", invalid(&gone));
}
