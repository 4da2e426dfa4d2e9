//! The rule of the folders, as tests: a crate that registers a component stands in `plugins/`, every other crate stands
//! in `core/` or is the root package.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::repository;

/// What may stand at the top of the repository.
const TOP: [&str; 19] = [
    ".cargo",
    ".ci",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "build.rs",
    "clippy.toml",
    "configs",
    "core",
    "docs",
    "examples",
    "plugins",
    "rustfmt.toml",
];
const TOP_OF_THE_ROOT_PACKAGE: [&str; 3] = ["src", "tests", "xtask"];

fn root() -> PathBuf {
    repository::root().unwrap()
}

/// The crates of a folder.
fn crates(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut crates: Vec<_> = entries.filter(|path| path.join("Cargo.toml").is_file()).collect();
    crates.sort();
    crates
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Whether code of the crate, comments apart, declares a component or a loader of plugin files.
fn registers(krate: &Path) -> bool {
    let mut files = Vec::new();
    sources(&krate.join("src"), &mut files);
    files.iter().any(|file| {
        let text = fs::read_to_string(file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.into_iter()
            .any(|line| line.contains("isr_config::register!(") || line.contains("::register_loader!("))
    })
}

/// The crates of this repository that a crate depends on, tests apart.
fn dependencies(krate: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(krate.join("Cargo.toml")).unwrap();
    let after = text.split("[dependencies]\n").nth(1).unwrap_or_default();
    let section = after.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| name.starts_with("isr-")).map(str::to_owned).collect()
}

fn package(krate: &Path) -> String {
    let text = fs::read_to_string(krate.join("Cargo.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("name = ")).unwrap();
    line.trim_start_matches("name = ").trim_matches('"').to_owned()
}

#[test]
fn crates_that_register_components_stand_in_plugins_and_no_others_do() {
    for krate in crates("plugins") {
        assert!(registers(&krate), "{} registers no component; it belongs in core/", krate.display());
    }
    for krate in crates("core") {
        assert!(!registers(&krate), "{} registers a component; it belongs in plugins/", krate.display());
    }
}

#[test]
fn plugins_depend_on_no_plugin_and_core_on_none() {
    let plugins: BTreeSet<String> = crates("plugins").iter().map(|krate| package(krate)).collect();
    for krate in crates("plugins").into_iter().chain(crates("core")) {
        let knows: Vec<String> = dependencies(&krate).intersection(&plugins).cloned().collect();
        assert!(knows.is_empty(), "{} depends on {knows:?}", krate.display());
    }
}

#[test]
fn the_api_depends_on_no_crate_of_ours_and_the_sdk_on_the_api_alone() {
    assert_eq!(dependencies(&root().join("core/api")), BTreeSet::new());
    assert_eq!(dependencies(&root().join("core/sdk")), BTreeSet::from(["isr-api".to_owned()]));
}

#[test]
fn a_crate_is_named_after_its_folder_and_stands_on_the_map() {
    let map = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for (folder, krate) in
        ["core", "plugins"].iter().flat_map(|it| crates(it).into_iter().map(move |k| (it, k)))
    {
        let name = krate.file_name().unwrap().to_string_lossy().into_owned();
        let expected = match name.as_str() {
            // The name under which authors of plugins depend on it.
            "sdk" => "isr-plugin".to_owned(),
            name => format!("isr-{name}"),
        };
        assert_eq!(package(&krate), expected);
        let row = format!("`{folder}/{name}`");
        assert!(map.contains(&row), "docs/architecture.md has no row {row}");
    }
}

#[test]
fn nothing_new_stands_at_the_top() {
    let listed = std::process::Command::new("git")
        .args(["ls-tree", "--name-only", "HEAD"])
        .current_dir(root())
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let known: BTreeSet<&str> = TOP.into_iter().chain(TOP_OF_THE_ROOT_PACKAGE).collect();
    let unknown: Vec<&str> = listed.lines().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
