//! What cannot be had, and what is done about it.

use std::fs;

use crate::hub;
use crate::server::Server;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn said(server: &Server, model: &str) -> String {
    let cache = tempfile::tempdir().unwrap();
    hub(server, cache.path()).resolve(model).unwrap_err().to_string()
}

#[test]
fn a_folder_is_taken_as_it_is() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let path = folder.path().to_str().unwrap();
    assert_eq!(hub(&server, folder.path()).resolve(path).unwrap(), folder.path());
    isr_torch::hub::check(path).unwrap();
    assert!(server.requests().is_empty());
}

#[test]
fn a_slip_in_a_path_is_not_asked_of_the_hub() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    fs::create_dir_all(folder.path().join("models/llava")).unwrap();
    let wrong = folder.path().join("models/lava");
    let message = said(&server, wrong.to_str().unwrap());
    assert!(message.contains("is neither a folder nor a model of the hub"), "{message}");
    assert!(message.contains("models/llava?"), "{message}");
    // Two parts look like an id; beside a folder of that name they are a path.
    let message = isr_torch::hub::check("src/lib.sr").unwrap_err().to_string();
    assert!(
        message.ends_with("; did you mean src/lib.rs?; the hub's model is hf://src/lib.sr"),
        "{message}"
    );
    assert!(server.requests().is_empty());
}

#[test]
fn what_is_no_name_is_refused_before_any_work() {
    for model in ["hf://nobody", "hf://a/b/c", "hf://a/../b"] {
        let message = isr_torch::hub::check(model).unwrap_err().to_string();
        assert!(message.contains("write hf://owner/name"), "{message}");
    }
    isr_torch::hub::check("owner/name").unwrap();
    isr_torch::hub::check("hf://owner/name@main").unwrap();
}

#[test]
fn a_model_that_is_not_there_and_one_that_is_gated_are_told_apart() {
    let server = Server::start();
    server.has("owner/gated", COMMIT, &[("config.json", b"{}")]);
    server.gate("owner/gated");
    let message = said(&server, "owner/nothing");
    assert!(message.starts_with("the hub has no model owner/nothing, or it is private"), "{message}");
    let message = said(&server, "owner/gated@v3");
    assert!(
        message.starts_with("the hub does not let anyone without a token read owner/gated@v3"),
        "{message}"
    );
    let cache = tempfile::tempdir().unwrap();
    let hub = isr_torch::hub::Hub { token: Some("hf_other".to_owned()), ..hub(&server, cache.path()) };
    let message = hub.resolve("owner/gated").unwrap_err().to_string();
    assert!(message.starts_with("the hub does not let this token read owner/gated"), "{message}");
    assert!(message.contains("/owner/gated, and set HF_TOKEN"), "{message}");
    assert!(!message.contains("hf_other"), "a token is nobody's business: {message}");
}

#[test]
fn pickled_weights_are_refused_before_they_are_downloaded() {
    let server = Server::start();
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("pytorch_model.bin", b"pickled")];
    server.has("owner/old", COMMIT, &files);
    let message = said(&server, "owner/old");
    assert!(
        message.starts_with("owner/old has no safetensors weights, only pytorch_model.bin"),
        "{message}"
    );
    assert!(server.requests().iter().all(|it| !it.path.contains("pytorch_model")));
}

#[test]
fn an_index_that_names_what_is_not_there_is_refused() {
    let server = Server::start();
    let index = br#"{"weight_map": {"a": "model-7.safetensors"}}"#;
    let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors.index.json", index)];
    server.has("owner/half", COMMIT, &files);
    let message = said(&server, "owner/half");
    assert_eq!(message, "owner/half is not a complete model: model-7.safetensors is missing on the hub");
}

#[test]
fn a_name_that_leads_out_of_the_cache_is_refused() {
    let server = Server::start();
    server.has("owner/evil", COMMIT, &[("config.json", b"{}"), ("../../x.json", b"{}")]);
    let message = said(&server, "owner/evil");
    assert!(message.contains("\"../../x.json\", which leads out of its folder"), "{message}");
}
