//! Without a network.

use std::fs;
use std::path::Path;

use isr_torch::hub::Hub;

use crate::hub;
use crate::server::Server;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub that nobody answers for.
fn offline(cache: &Path) -> Hub {
    Hub {
        endpoint: "http://127.0.0.1:9".to_owned(),
        cache: Some(cache.to_owned()),
        token: None,
        offline: true,
        progress: false,
        attempts: 1,
        pause: std::time::Duration::from_millis(2),
    }
}

/// A cache as a whole download leaves it.
fn cached() -> (tempfile::TempDir, std::path::PathBuf) {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
    ];
    server.has("owner/name", COMMIT, &files);
    let folder = hub(&server, cache.path()).resolve("owner/name").unwrap();
    (cache, folder)
}

#[test]
fn a_model_in_the_cache_is_found() {
    let (cache, folder) = cached();
    assert_eq!(offline(cache.path()).resolve("owner/name").unwrap(), folder);
    assert_eq!(offline(cache.path()).resolve(&format!("hf://owner/name@{COMMIT}")).unwrap(), folder);
}

#[test]
fn a_file_that_is_missing_is_named_with_a_way_to_get_it() {
    for missing in ["config.json", "model-2.safetensors", "tokenizer.json"] {
        let (cache, folder) = cached();
        fs::remove_file(folder.join(missing)).unwrap();
        let message = offline(cache.path()).resolve("owner/name").unwrap_err().to_string();
        let start = format!("HF_HUB_OFFLINE is set, and {missing} of owner/name is not in ");
        assert!(message.starts_with(&start), "{message}");
        assert!(message.contains("`hf download owner/name`"), "{message}");
    }
    let empty = tempfile::tempdir().unwrap();
    let message = offline(empty.path()).resolve("owner/name@v2").unwrap_err().to_string();
    assert!(message.contains("any file of owner/name@v2 is not in "), "{message}");
}

#[test]
fn a_hub_that_does_not_answer_is_replaced_by_a_whole_cache_alone() {
    let (cache, folder) = cached();
    let unreachable = Hub { offline: false, ..offline(cache.path()) };
    assert_eq!(unreachable.resolve("owner/name").unwrap(), folder);
    fs::remove_file(folder.join("config.json")).unwrap();
    let message = unreachable.resolve("owner/name").unwrap_err().to_string();
    let start = "cannot get the list of files of owner/name from http://127.0.0.1:9: ";
    assert!(message.starts_with(start), "{message}");
}
