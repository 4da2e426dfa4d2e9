//! `isr cache` and `loop.feature_cache_dir`.

use std::fs;
use std::path::Path;

use crate::support::{isr_line, playground};

fn responses(folder: &Path, run: &str) -> Vec<u8> {
    fs::read(folder.join(run).join("iteration-01/responses.jsonl")).unwrap()
}

#[test]
fn runs_share_features_on_disk_and_say_the_same_as_without() {
    let folder = playground();
    let path = folder.path();
    let run = |out: &str, rest: &str| {
        isr_line(path, &format!("run run.toml -q --out {out} -s loop.iterations=1 {rest}")).result()
    };
    run("plain", "");
    let cached = "-s loop.feature_cache_dir=features";
    run("first", cached);
    let said = isr_line(path, "cache stats features --json").result();
    let stats: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&stats["dir"], &stats["entries"]), (&"features".into(), &8.into()));
    run("second", cached);
    assert_eq!(isr_line(path, "cache stats features --json").result(), said);
    assert_eq!(responses(path, "plain"), responses(path, "first"));
    assert_eq!(responses(path, "plain"), responses(path, "second"));
    let cleared = isr_line(path, "cache clear features").result();
    assert!(cleared.starts_with("features: removed 8 entries, "), "{cleared}");
    assert_eq!(isr_line(path, "cache stats features").result(), "features: 0 entries, 0.0 MiB\n");
}

#[test]
fn the_users_cache_is_not_cleared_by_accident() {
    let home = tempfile::tempdir().unwrap();
    let clear = |more: &[&str]| {
        let mut command = crate::support::command(home.path());
        command
            .env("XDG_CACHE_HOME", home.path())
            .env("HOME", home.path())
            .args(["cache", "clear"])
            .args(more);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, said) = clear(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("no folder is given, and this would clear ") && said.contains("0 entries"),
        "{said}"
    );
    assert!(said.contains("hint: name the folder, or add --yes"), "{said}");
    assert_eq!(clear(&["--yes"]).0, Some(0));
}

#[test]
fn a_cache_that_cannot_be_one_is_refused_before_any_work() {
    let folder = playground();
    let said = isr_line(
        folder.path(),
        "run run.toml --out out -s loop.feature_cache_dir=run.toml -s loop.feature_cache_gb=0",
    );
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    for part in
        ["loop.feature_cache_gb` in `-s loop.feature_cache_gb=0` is 0; it must be above 0", "a folder"]
    {
        assert!(said.stderr.contains(part), "{}", said.stderr);
    }
    assert!(!folder.path().join("out").exists());
}
