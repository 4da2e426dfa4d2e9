//! Runs in several processes of one machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{command, isr_line, playground};

/// Journals of an iteration that are written before its training.
const BEFORE_TRAINING: [&str; 4] = ["responses.jsonl", "contexts.jsonl", "verdicts.jsonl", "pairs.jsonl"];

#[track_caller]
fn assert_equal_journals(a: &Path, b: &Path) {
    for name in BEFORE_TRAINING.map(|name| format!("iteration-01/{name}")) {
        assert!(fs::read(a.join(&name)).unwrap() == fs::read(b.join(&name)).unwrap(), "{name} differs");
    }
    let base = "iteration-00/evaluation.jsonl";
    assert!(fs::read(a.join(base)).unwrap() == fs::read(b.join(base)).unwrap(), "{base} differs");
}

fn first_losses(run: &Path) -> Vec<f64> {
    let text = fs::read_to_string(run.join("iteration-01/metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap())
        .collect()
}

#[test]
fn a_run_of_several_processes_is_that_of_one() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml -q --out one -s loop.iterations=1").result();
    for (count, shard) in [(2, "none"), (3, "optimizer"), (2, "full")] {
        let out = format!("{count}-{shard}");
        let line = format!(
            "run run.toml --out {out} -s loop.iterations=1 --processes {count} -s policy.training.parallel.shard={shard}"
        );
        let said = isr_line(path, &line);
        let stages = said.stderr.lines().filter(|line| line.contains("respond:")).count();
        assert_eq!(stages, 1, "one process shows progress:\n{}", said.stderr);
        assert!(said.result().contains(&format!("report  {out}/report.html")));
        assert_equal_journals(&path.join("one"), &path.join(&out));
        let (one, several) = (first_losses(&path.join("one")), first_losses(&path.join(&out)));
        assert_eq!(one.len(), several.len());
        for (one, several) in one.iter().zip(&several) {
            assert!((one - several).abs() < 1e-5, "{out}: {one} and {several}");
        }
        let left = fs::read_dir(path.join(&out).join("iteration-01")).unwrap();
        let mut left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(left.all(|name| !name.contains(".part-")), "parts are gone");
        let timings = fs::read_to_string(path.join(&out).join("timings.jsonl")).unwrap();
        for stage in ["respond", "train"] {
            let timing = timings.lines().find(|line| line.contains(&format!("\"{stage}\""))).unwrap();
            let timing: Value = serde_json::from_str(timing).unwrap();
            assert_eq!(timing["processes"].as_array().unwrap().len(), count, "{stage}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_process_ends_the_others_and_the_same_command_continues() {
    let folder = playground();
    let path = folder.path();
    isr_line(path, "run run.toml -q --out one -s loop.iterations=1").result();
    let line = "run run.toml --out cut -s loop.iterations=1 --processes 3 --process-timeout 2";
    let mut launcher = command(path).args(line.split(' ')).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(launcher.stderr.take().unwrap()).lines().map(Result::unwrap);
    said.find(|line| line.contains("iteration 1, respond")).unwrap();
    let id = launcher.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let last = children.split_whitespace().next_back().unwrap();
    let killed = Instant::now();
    assert!(Command::new("kill").args(["-KILL", last]).status().unwrap().success());
    let said: Vec<String> = said.collect();
    let code = launcher.wait().unwrap().code();
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
    assert!(matches!(code, Some(1)), "{code:?}: {said:?}");
    assert!(
        said.iter().any(|line| line.starts_with("error: rank") || line.starts_with("error: process")),
        "{said:?}"
    );
    isr_line(path, &line.replace("--processes 3", "--processes 2")).result();
    assert_equal_journals(&path.join("one"), &path.join("cut"));
}

#[test]
fn what_a_launcher_left_out_is_named() {
    let folder = playground();
    let said = |variables: &[(&str, &str)], line: &str| {
        let output =
            command(folder.path()).envs(variables.iter().copied()).args(line.split(' ')).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let text = said(&[("WORLD_SIZE", "2")], "run run.toml");
    assert!(text.contains("RANK"), "{text}");
    let group = [
        ("WORLD_SIZE", "2"),
        ("RANK", "0"),
        ("LOCAL_RANK", "0"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "1"),
    ];
    let text = said(&group, "run run.toml --processes 2");
    assert!(text.contains("leave --processes out"), "{text}");
    let text = said(&group, "sft sft.toml");
    assert!(text.contains("`isr sft` runs in one process"), "{text}");
    let text = said(&[], "run run.toml --processes 0");
    assert!(text.contains("--processes"), "{text}");
}
