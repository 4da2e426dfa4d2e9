//! Builds projects that are no part of the workspace. The tests of the binary use this file too.

#![allow(dead_code, reason = "each user needs some")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.find(|folder| folder.join("core/sdk").is_dir()).unwrap()
}

/// Builds a project, with more arguments for cargo, and returns the folder of what came of it. All projects share
/// a target directory below the workspace's, so that what they share is compiled once.
pub(crate) fn build(project: &Path, arguments: &[String]) -> PathBuf {
    let target = root().join("target/plugins");
    // As optimised as who asks.
    let (profile, folder) = if cfg!(debug_assertions) { ("dev", "debug") } else { ("release", "release") };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--profile", profile, "--manifest-path"])
        .arg(project.join("Cargo.toml"))
        .args(arguments)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_INCREMENTAL", "0")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}: {}", project.display(), String::from_utf8_lossy(&built.stderr));
    target.join(folder)
}

/// The file name of a library.
pub(crate) fn file_name(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

fn library(project: &str, name: &str) -> PathBuf {
    build(&root().join(project), &[]).join(file_name(name))
}

/// The library with components of every kind, well-behaved and hostile.
pub(crate) fn fixture() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| library("plugins/native/tests/fixture", "fixture"))
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
