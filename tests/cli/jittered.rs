//! Runs whose frames are drawn in each iteration, on real clips.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::runs::{assert_equal_trees, signal};
use crate::support::{isr_line, playground, started};

/// A playground whose run draws frames.
fn drawing() -> tempfile::TempDir {
    let folder = playground();
    let file = folder.path().join("run.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, text.replace(r#"rule = "uniform""#, r#"rule = "jittered""#)).unwrap();
    folder
}

fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_that_is_cut_goes_on_with_its_draws_and_features_on_disk_change_nothing() {
    let folder = drawing();
    let path = folder.path();
    isr_line(path, "run run.toml --out whole -q").result();
    for mark in ["iteration 1, train", "iteration 2, retrospect"] {
        let mut child = started(path, "cut", mark);
        signal(&child, "-INT");
        assert_eq!(child.wait().unwrap().code(), Some(130), "{mark}");
    }
    isr_line(path, "run run.toml --out cut -q").result();
    assert_equal_trees(&path.join("whole"), &path.join("cut"));

    let entries = || {
        let said = isr_line(path, "cache stats features --json").result();
        serde_json::from_str::<Value>(&said).unwrap()["entries"].as_u64().unwrap()
    };
    isr_line(path, "run run.toml --out cached -q -s loop.feature_cache_dir=features").result();
    let first = entries();
    // Of six clips each iteration has a draw, of which a few are equal, and of two held-out ones there is the middle.
    assert!(first > 8 && first <= 6 * 2 + 2, "{first}");
    isr_line(path, "run run.toml --out again -q -s loop.feature_cache_dir=features").result();
    assert_eq!(entries(), first);
    for out in ["cached", "again"] {
        for file in ["iteration-02/responses.jsonl", "iteration-02/metrics.jsonl"] {
            let [plain, cached] = ["whole", out].map(|out| fs::read(path.join(out).join(file)).unwrap());
            assert!(plain == cached, "{out}/{file}");
        }
    }
}

#[test]
fn what_looks_back_at_an_iteration_sees_its_frames() {
    let folder = drawing();
    let path = folder.path();
    isr_line(path, "run run.toml --out out -q").result();
    // A judge that is asked again about the same frames says the same.
    fs::write(path.join("again.toml"), "name = \"again\"\n").unwrap();
    isr_line(path, "audit out --config again.toml -q").result();
    for iteration in ["iteration-01", "iteration-02"] {
        let [then, now] = ["out", "out/audits/again"].map(|run| {
            let file = path.join(run).join(iteration).join("verdicts.jsonl");
            lines(&file).into_iter().map(|line| line["verdict"].clone()).collect::<Vec<_>>()
        });
        assert!(!then.is_empty() && then == now, "{iteration}");
    }
    // Pairs have the frames that their iteration saw.
    isr_line(path, "export out --unselected --format trl --frames frames --out pairs.jsonl").result();
    let mut seen: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for row in lines(&path.join("pairs.jsonl")) {
        let images: Vec<&str> =
            row["images"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(images.len(), 2);
        let pixels = images.iter().flat_map(|image| fs::read(image).unwrap()).collect();
        seen.entry(row["videos"][0].as_str().unwrap().to_owned()).or_default().insert(pixels);
    }
    assert!(seen.values().any(|draws| draws.len() == 2), "some clip was seen by two draws");
    isr_line(path, "report out").result();
}
