//! What stands in a run directory as a symbolic link is not followed: nothing outside is written or emptied.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;

use crate::bench::{Settings, run, scratch};

#[tokio::test]
async fn links_are_refused_by_name_and_what_they_point_to_stays() {
    for name in [
        ".lock",
        "config.toml.tmp",
        "summary.json.tmp",
        "fingerprints.json.tmp",
        "iteration-01/responses.jsonl",
        "iteration-01/quarantine.jsonl",
        "iteration-01/pairs.jsonl.tmp",
        "iteration-01/evaluation.json.tmp",
    ] {
        let (dir, outside) = (scratch(), scratch());
        let target = outside.path().join("mine");
        fs::write(&target, "mine").unwrap();
        let link = dir.path().join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&target, &link).unwrap();
        let error = run(dir.path(), &Settings::default()).await.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("symbolic link"), "{name}: {error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine", "{name}");
    }
}

#[tokio::test]
async fn folders_that_are_links_are_not_filled() {
    for name in ["iteration-00", "iteration-01", "iteration-01/training", "iteration-01/checkpoint.tmp"] {
        let (dir, outside) = (scratch(), scratch());
        let link = dir.path().join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.path(), &link).unwrap();
        let error = run(dir.path(), &Settings::with_snapshots()).await.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("symbolic link"), "{name}: {error}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{name}");
    }
}
