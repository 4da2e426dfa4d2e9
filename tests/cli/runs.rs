//! Runs: equal seeds, cuts, Ctrl-C, reports, warm starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::support::{clip, isr_line, playground, started};

/// What equal runs may differ in.
const MAY_DIFFER: [&str; 3] = ["provenance.json", "timings.jsonl", "report.html"];

/// All files below a folder that equal runs share.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if MAY_DIFFER.contains(&name.as_str()) => {}
                false => drop(files.insert(name, fs::read(path).unwrap())),
            }
        }
    }
    files
}

#[track_caller]
pub(crate) fn assert_equal_trees(a: &Path, b: &Path) {
    let (a, b) = (tree(a), tree(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let different: Vec<_> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    assert!(different.is_empty(), "{different:?} differ");
}

pub(crate) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_run_cut_at_many_moments_ends_in_the_same_bytes() {
    let folder = playground();
    let path = folder.path();
    let said = isr_line(path, "run run.toml --out whole");
    insta::assert_snapshot!("progress", without_figures(&said.stderr));
    let table = said.result();
    assert!(table.contains("report  whole/report.html"), "{table}");
    assert!(table.lines().any(|line| line.trim_start().starts_with("2 ")), "{table}");

    let cuts = [
        ("preparing data", 40),
        ("starting model, evaluate", 10),
        ("iteration 1, respond", 15),
        ("iteration 1, judge", 5),
        ("iteration 1, judge", 60),
        ("iteration 1, train", 10),
        ("iteration 2, respond", 30),
        ("iteration 2, retrospect", 20),
        ("iteration 2, train", 25),
        ("iteration 2, evaluate", 5),
    ];
    for (mark, milliseconds) in cuts {
        let mut child = started(path, "cut", mark);
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let last = isr_line(path, "run run.toml --out cut");
    assert_eq!(last.result().replace("cut", "whole"), table);
    assert_equal_trees(&path.join("whole"), &path.join("cut"));

    // A complete run is left as it is.
    assert_eq!(isr_line(path, "run run.toml --out whole").result(), table);
    assert_equal_trees(&path.join("whole"), &path.join("cut"));

    let report = isr_line(path, "report whole cut").result();
    assert_eq!(report, "report.html\n");
    assert!(fs::read_to_string(path.join("report.html")).unwrap().contains("<html"));
}

#[test]
fn ctrl_c_stops_a_run_that_the_same_command_continues_with_the_same_result() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml --out whole -q").result();
    for mark in ["starting model, evaluate", "iteration 1, retrospect", "iteration 1, train"] {
        let mut child = started(path, "cut", mark);
        signal(&child, "-INT");
        assert_eq!(child.wait().unwrap().code(), Some(130), "{mark}");
    }
    isr_line(path, "run run.toml --out cut -q").result();
    assert_equal_trees(&path.join("whole"), &path.join("cut"));
    let provenance = fs::read_to_string(path.join("cut/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_str(&provenance).unwrap();
    assert_eq!(provenance["continued"].as_array().unwrap().len(), 3);
    assert_eq!(provenance["command"][1], "run");
}

#[test]
fn a_seed_decides_what_a_run_does() {
    let folder = playground();
    for (out, seed) in [("a", 3), ("b", 4)] {
        let line = format!("run run.toml -q --out {out} -s loop.iterations=1 -s seed={seed}");
        isr_line(folder.path(), &line).result();
    }
    let read = |out: &str| fs::read(folder.path().join(out).join("iteration-01/responses.jsonl")).unwrap();
    assert_ne!(read("a"), read("b"));
}

#[test]
fn a_warm_start_makes_the_model_that_a_run_begins_with() {
    let folder = playground();
    let path = folder.path();
    assert_eq!(isr_line(path, "sft sft.toml").result(), "runs/warm/checkpoint\n");
    let steps = fs::read_to_string(path.join("runs/warm/metrics.jsonl")).unwrap().lines().count();
    assert_eq!(steps, 6);
    assert_eq!(isr_line(path, "sft sft.toml --out again -q").result(), "again/checkpoint\n");
    assert_equal_trees(&path.join("runs/warm"), &path.join("again"));
    let run = "run run.toml -q -s loop.iterations=1 -s policy.model=runs/warm/checkpoint";
    isr_line(path, run).result();
    let wrong = isr_line(path, "sft sft.toml --out x -s policy.model=warm-world");
    insta::assert_snapshot!(wrong.all(), @r#"
    exit code 2
    loading the model
    error: `policy.model` is warm-world, which holds files, but no config.json; name a new folder
    "#);
}

#[test]
fn a_run_with_adapters_keeps_adapters_that_are_models_and_can_be_merged() {
    let folder = playground();
    let path = folder.path();
    let lora =
        "-q -s policy.training.lora.rank=2 -s policy.training.lora.targets=[\"q_proj\",\"down_proj\"]";
    isr_line(path, &format!("run run.toml --out a {lora}")).result();
    // The second iteration goes on from the first one's adapter, in a process that has not trained it.
    isr_line(path, &format!("run run.toml --out b {lora}")).result();
    fs::remove_dir_all(path.join("b/iteration-02")).unwrap();
    fs::remove_file(path.join("b/summary.json")).unwrap();
    isr_line(path, &format!("run run.toml --out b {lora}")).result();
    assert_equal_trees(&path.join("a"), &path.join("b"));
    let adapter = "a/iteration-02/checkpoint";
    assert!(!path.join(adapter).join("model.safetensors").exists());
    let config = fs::read_to_string(path.join(adapter).join("adapter_config.json")).unwrap();
    assert!(config.contains("\"base_model_name_or_path\": \"model\""), "{config}");
    let merged = isr_line(path, &format!("merge --base model --adapter {adapter} --out merged"));
    assert_eq!(merged.result(), "merged: 4 layers changed\n");
    clip(path);
    let ask = |model: &str| {
        isr_line(
            path,
            &format!("generate --model {model} --video clip.mp4 --prompt bar --greedy --frames 2"),
        )
        .result()
    };
    assert_eq!(ask(adapter), ask("merged"));
    let again = isr_line(path, &format!("merge --base model --adapter {adapter} --out merged"));
    assert_eq!(again.all(), "exit code 2\nerror: merged exists already\n");
    let wrong = isr_line(path, "merge --base model --adapter model --out other");
    assert_eq!(
        (wrong.code, path.join("other").exists(), path.join("other.tmp").exists()),
        (Some(2), false, false)
    );
}

/// Times and figures as `_`.
fn without_figures(text: &str) -> String {
    let masked = |word: &str| {
        let figure = word.trim_end_matches([',', '.']);
        match figure.contains('.') && figure.parse::<f64>().is_ok() {
            true => word.replace(figure, "_"),
            false => word.to_owned(),
        }
    };
    // A stage that takes ten seconds on a busy machine says how far it is.
    let is_interim = |line: &&str| line.contains('/') && line.contains(": ") && line.ends_with(' ');
    let lines = text.lines().filter(|line| !is_interim(line));
    lines.map(|line| line.split(' ').map(masked).collect::<Vec<_>>().join(" ") + "\n").collect()
}
