//! The example of the repository, compiled by zig.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use isr_api::Kind;
use isr_config::plugin::PluginFile;
use serde_json::json;

use crate::built::{compile, near_length};
use crate::support::{judge, load};

/// The example, compiled once.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| near_length(&root()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_example_says_what_it_gives() {
    let plugin = load(built(), &PluginFile::default()).unwrap();
    let [manifest] = plugin.manifests() else { panic!("one component") };
    assert_eq!((manifest.kind, manifest.name.as_str()), (Kind::Judge, "near_length"));
    assert_eq!(manifest.schema["properties"]["words"]["default"], json!(8));
    assert_eq!(manifest.example, "words = 8\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_judges_by_its_settings() {
    let plugin = load(built(), &PluginFile::default()).unwrap();
    let policy = std::sync::Arc::new(isr_testing::FakePolicy::default()).frozen();
    let case = isr_testing::fixtures::case("a bar", "a red bar moves");
    for (words, p_first) in [(4, 0.5 - 0.5 * 2.0 / 3.0), (2, 0.5 + 0.5 * 2.0 / 3.0), (3, 0.5)] {
        let judge = judge(&*plugin, "near_length", &json!({ "words": words })).unwrap();
        assert_eq!(judge.judge(&case, &policy).await.unwrap().p_first, p_first, "{words}");
    }
    let refused = judge(&*plugin, "near_length", &json!({"words": -1})).err().unwrap();
    assert_eq!(refused, "words must be at least 1");
}

/// The first block of a language in the guide.
fn block(language: &str) -> String {
    let guide = std::fs::read_to_string(root().join("docs/plugins-wasm.md")).unwrap();
    guide.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// Checks a judge `brevity` against the contract, and that it is brief.
async fn check_brevity(file: &Path) {
    let plugin = load(file, &PluginFile::default()).unwrap();
    let judge = judge(&*plugin, "brevity", &json!({})).unwrap();
    let policy = std::sync::Arc::new(isr_testing::FakePolicy::default()).frozen();
    let case = isr_testing::fixtures::case("a", "bcd");
    assert_eq!(judge.judge(&case, &policy).await.unwrap().p_first, 1.0);
    let found = isr_testing::judge(judge, &isr_testing::JudgeRules::default()).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_of_the_guide_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("brevity.c"), folder.path().join("brevity.wasm"));
    std::fs::write(&from, block("c")).unwrap();
    compile(&root(), &from, &to);
    check_brevity(&to).await;
}

/// Needs the target `wasm32-wasip2`, and the crate `wit-bindgen` from the network or cargo's cache.
#[tokio::test(flavor = "multi_thread")]
async fn the_judge_in_rust_of_the_guide_keeps_the_contract() {
    const TARGET: &str = "wasm32-wasip2";
    let targets = Command::new("rustup").args(["target", "list", "--installed"]).output();
    if !targets
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == TARGET))
    {
        eprintln!("skipped: the target {TARGET} is not installed (rustup target add {TARGET})");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("lib.rs", &block("rust"));
    write("isr.wit", &std::fs::read_to_string(root().join("plugins/wasm/wit/isr.wit")).unwrap());
    write(
        "Cargo.toml",
        "[package]\nname = \"brevity\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n\
         crate-type = [\"cdylib\"]\n[dependencies]\nwit-bindgen = \"*\"\n[workspace]\n",
    );
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--target", TARGET])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    check_brevity(&folder.path().join(format!("target/{TARGET}/debug/brevity.wasm"))).await;
}
