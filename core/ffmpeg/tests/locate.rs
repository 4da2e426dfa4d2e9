//! Where ffmpeg is looked for, and where it is not.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Run by the next test in processes of its own.
#[test]
#[ignore = "only in another working directory"]
fn location() {
    println!("found {}.", isr_ffmpeg::locate().unwrap().display());
}

fn located(program: &Path, directory: &Path) -> String {
    let output = Command::new(program)
        .args(["--ignored", "--exact", "location", "--nocapture"])
        .current_dir(directory)
        .env_remove("ISR_FFMPEG")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("found ")).unwrap_or_else(|| panic!("{text}"));
    line[line.find("found ").unwrap()..].to_owned()
}

#[test]
fn a_program_above_the_working_directory_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let (foreign, inner) = (folder.path().join(".ffmpeg/ffmpeg"), folder.path().join("data/videos"));
    fs::create_dir_all(foreign.parent().unwrap()).unwrap();
    fs::create_dir_all(&inner).unwrap();
    fs::write(&foreign, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
    let this = std::env::current_exe().unwrap();
    let found = located(&this, &inner);
    assert!(!found.contains(folder.path().to_str().unwrap()), "{found}");
    let link = inner.join("isr");
    symlink(&this, &link).unwrap();
    assert_eq!(located(&link, &inner), found, "a link to the binary is followed");
}
