//! The example of the repository, compiled by zig.

use std::path::{Path, PathBuf};
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

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_of_the_guide_prefers_the_shorter_answer() {
    let guide = std::fs::read_to_string(root().join("docs/plugins-wasm.md")).unwrap();
    let source = guide.split("```c\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("brevity.c"), folder.path().join("brevity.wasm"));
    std::fs::write(&from, source).unwrap();
    compile(&root(), &from, &to);
    let plugin = load(&to, &PluginFile::default()).unwrap();
    let judge = judge(&*plugin, "brevity", &json!({})).unwrap();
    let policy = std::sync::Arc::new(isr_testing::FakePolicy::default()).frozen();
    let case = isr_testing::fixtures::case("a", "bcd");
    assert_eq!(judge.judge(&case, &policy).await.unwrap().p_first, 1.0);
}
