//! The example of the repository, compiled by zig.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use isr_core::plugin::PluginFile;
use isr_core::registry::Kind;
use serde_json::json;

use crate::support::{judge, load};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compiles `near_length.c` where the config of `configs/plugins` looks for it.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = root().join("examples/plugins/judge-wasm");
        let fresh = tempfile::NamedTempFile::new_in(&folder).unwrap();
        let output = Command::new(root().join(".zig/ziglang/zig").canonicalize().expect(NO_ZIG))
            .args(["cc", "--target=wasm32-freestanding", "-O2", "-nostdlib", "-Wl,--no-entry", "-s"])
            .args(["-Wall", "-Wextra", "-Werror", "near_length.c", "-o"])
            .arg(fresh.path())
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = folder.join("near_length.wasm");
        std::fs::rename(fresh.path(), &path).unwrap();
        path
    })
}

const NO_ZIG: &str = "`cargo xtask test` installs .zig";

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
    let policy = std::sync::Arc::new(isr_contract::FakePolicy::default()).frozen();
    let case = isr_contract::fixtures::case("a bar", "a red bar moves");
    for (words, p_first) in [(4, 0.5 - 0.5 * 2.0 / 3.0), (2, 0.5 + 0.5 * 2.0 / 3.0), (3, 0.5)] {
        let judge = judge(&*plugin, "near_length", &json!({ "words": words })).unwrap();
        assert_eq!(judge.judge(&case, &policy).await.unwrap().p_first, p_first, "{words}");
    }
    let refused = judge(&*plugin, "near_length", &json!({"words": -1})).err().unwrap();
    assert_eq!(refused, "words must be at least 1");
}
