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
    insta::assert_snapshot!(refused("polcy.batch=8"), @r#"
    exit code 2
    error: unknown key `polcy` in `-s polcy.batch=8`; did you mean `policy`?
    "#);
    insta::assert_snapshot!(refused("policy.bacth=8"), @r#"
    exit code 2
    error: unknown key `policy.bacth` in `-s policy.bacth=8`; did you mean `batch`?
    "#);
    insta::assert_snapshot!(refused("selection.type=consistant"), @r#"
    exit code 2
    error: unknown selection `consistant` in `-s selection.type=consistant`; did you mean `consistent`? known: balanced_lengths, chain, consistent, deduplicate, length_debiased, top_k
    "#);
    insta::assert_snapshot!(refused("policy.precision=bfloat61"), @r#"
    exit code 2
    error: `policy.precision` in `-s policy.precision=bfloat61` is "bfloat61", which is not among its values; did you mean `bfloat16`?
    "#);
    insta::assert_snapshot!(refused("policy.batch=many"), @r#"
    exit code 2
    error: `policy.batch` in `-s policy.batch=many`: expected an integer or "none", found string "many"
    "#);
    insta::assert_snapshot!(refused("policy.model=modle"), @r#"
    exit code 2
    error: `policy.model` in `-s policy.model=modle` is modle, which does not exist; did you mean model?
    "#);
    insta::assert_snapshot!(refused("policy.batch=7"), @r#"
    exit code 2
    error: `policy.batch` in `-s policy.batch=7` is 7; it must be 1 or a multiple of 8
    "#);
}

#[test]
fn a_list_that_is_not_there_is_named_with_the_nearest_one() {
    let folder = playground();
    fs::write(folder.path().join("train.jsonl"), "").unwrap();
    let data = r#"data={type = "jsonl", training = "tarin.jsonl"}"#;
    insta::assert_snapshot!(isr(folder.path(), ["run", "run.toml", "-s", data]).all(), @r#"
    exit code 2
    error: `data.training` in `-s data={type = "jsonl", training = "tarin.jsonl"}` is tarin.jsonl, which does not exist; did you mean train.jsonl?
    "#);
}

#[test]
fn an_unknown_config_file_is_named_with_the_nearest_one() {
    let folder = playground();
    insta::assert_snapshot!(isr_line(folder.path(), "run rum.toml").all(), @r#"
    exit code 2
    error: cannot read config rum.toml: there is no such file; did you mean run.toml?
    "#);
    insta::assert_snapshot!(isr_line(folder.path(), "run absent/run.toml").all(), @r#"
    exit code 2
    error: cannot read config absent/run.toml: there is no such file
    "#);
}

#[test]
fn several_problems_are_told_at_once() {
    let folder = playground();
    let said = isr_line(folder.path(), "run run.toml -s sed=1 -s train.epochs=0 -s judge.order=both");
    insta::assert_snapshot!(said.all(), @r#"
    exit code 2
    error: 2 problems in the config:
    - unknown key `judge.order` in `-s judge.order=both`; did you mean `orders`?
    - unknown key `sed` in `-s sed=1`; did you mean `seed`?
    "#);
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
    insta::assert_snapshot!(refused("policy.device=gpu"), @r#"
    exit code 2
    loading models
    error: cannot build policy `torch`: device `gpu` is not one of auto, cpu, cuda, cuda:N
    "#);
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
    insta::assert_snapshot!(said.all(), @r#"
    exit code 2
    loading models
    error: r holds a run with another config (`objective.beta` was 0.1, is 0.5); choose another --out, or repeat the config that it was started with
    "#);
}

#[test]
fn a_column_map_is_checked_like_every_other_section() {
    let folder = playground();
    fs::write(folder.path().join("train.jsonl"), "{\"clip\": \"a\", \"q\": \"what?\"}\n").unwrap();
    let with = |columns: &str| {
        let data =
            format!(r#"data={{type = "jsonl", training = "train.jsonl", columns = {{ {columns} }}}}"#);
        isr(folder.path(), ["world", "render", "run.toml", "-s", &data])
    };
    let misspelt = with(r#"vidoe = "clip""#);
    assert_eq!(misspelt.code, Some(2), "{}", misspelt.stderr);
    assert!(misspelt.stderr.contains("unknown key `data.columns.vidoe`"), "{}", misspelt.stderr);
    assert!(misspelt.stderr.contains("did you mean `video`?"), "{}", misspelt.stderr);
    let wrong = with(r#"video = "clop", instruction = "q""#);
    let expected = "train.jsonl:1: there is no column `clop`; did you mean `clip`?";
    assert!(wrong.stderr.contains(expected), "{}", wrong.stderr);
    let right = with(r#"video = "clip", instruction = "q""#).result();
    assert_eq!(right, "1 training clips with 1 samples, 0 held-out clips with 0 samples\n");
}
