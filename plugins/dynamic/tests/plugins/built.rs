//! Builds projects that are no part of the workspace. The tests of the binary use this file too.

#![allow(dead_code, reason = "each user needs some")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The library of a project, built once a test run. All projects share a target directory below the
/// workspace's, so that what they share is compiled once.
fn library(project: &str, name: &str) -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = above.find(|folder| folder.join("plugins/abi").is_dir()).unwrap();
    let manifest = root.join(project).join("Cargo.toml");
    let target = root.join("target/plugins");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(&manifest)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_INCREMENTAL", "0")
        .output()
        .unwrap();
    assert!(built.status.success(), "{project}: {}", String::from_utf8_lossy(&built.stderr));
    let file = format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    target.join("debug").join(file)
}

/// The library with components of every kind, well-behaved and hostile.
pub(crate) fn fixture() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| library("plugins/dynamic/tests/fixture", "fixture"))
}

/// The example judge `terse`.
pub(crate) fn example_judge() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| library("examples/plugins/judge-rust", "judge_rust"))
}

/// The example objective `squared_hinge`.
pub(crate) fn example_objective() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| library("examples/plugins/objective-rust", "objective_rust"))
}
