//! Bad input ends in an error that names it, before any work.

use std::fs;

use crate::support::{isr, isr_line, playground};

/// `isr run run.toml` with an override.
fn refused(overriding: &str) -> String {
    let folder = playground();
    let said = isr(folder.path(), ["run", "run.toml", "-s", overriding]);
    assert!(!folder.path().join("runs").exists() && !folder.path().join("world").exists());
    said.all()
}

#[test]
fn unknown_plugins_keys_values_and_files_are_named_with_the_nearest_right_one() {
    insta::assert_snapshot!(refused("polcy.batch=8"), @"");
    insta::assert_snapshot!(refused("policy.bacth=8"), @"");
    insta::assert_snapshot!(refused("selection.type=consistant"), @"");
    insta::assert_snapshot!(refused("policy.precision=bfloat61"), @"");
    insta::assert_snapshot!(refused("policy.batch=many"), @"");
    insta::assert_snapshot!(refused("policy.model=modle"), @"");
    insta::assert_snapshot!(refused("policy.batch=7"), @"");
}

#[test]
fn an_unknown_config_file_is_named_with_the_nearest_one() {
    let folder = playground();
    insta::assert_snapshot!(isr_line(folder.path(), "run rum.toml").all(), @"");
    insta::assert_snapshot!(isr_line(folder.path(), "run absent/run.toml").all(), @"");
}

#[test]
fn several_problems_are_told_at_once() {
    let folder = playground();
    let said = isr_line(folder.path(), "run run.toml -s sed=1 -s train.epochs=0 -s judge.order=both");
    insta::assert_snapshot!(said.all(), @"");
}

#[test]
fn a_bad_command_line_is_exit_code_2() {
    let folder = playground();
    for line in ["", "rnu run.toml", "run", "run run.toml --ouf x", "-q -v config check run.toml"] {
        assert_eq!(isr_line(folder.path(), line).code, Some(2), "isr {line}");
    }
}

#[test]
fn what_is_no_run_has_no_report() {
    let folder = playground();
    let said = isr_line(folder.path(), "report model");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.starts_with("error: model is not a run directory"), "{}", said.stderr);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    insta::assert_snapshot!(refused("policy.device=gpu"), @"");
}

#[test]
fn a_run_that_failed_before_its_first_result_may_change_its_config() {
    let folder = playground();
    let list = folder.path().join("list.jsonl");
    fs::write(&list, "{broken\n").unwrap();
    let data = r#"data={type = "jsonl", training = "list.jsonl"}"#;
    let said = isr(folder.path(), ["run", "run.toml", "--out", "r", "-s", data]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("list.jsonl"), "{}", said.stderr);
    let other = ["run", "run.toml", "--out", "r", "-s", "loop.iterations=1"];
    isr(folder.path(), other).result();
    // Now it is a run, and stays what it is.
    let said = isr(folder.path(), ["run", "run.toml", "--out", "r", "-s", "objective.beta=0.5"]);
    insta::assert_snapshot!(said.all(), @"");
}
