//! vLLM's calls (0.32), and what holds for them alone.

use isr_api::{ComponentError, Policy};
use isr_testing::FakePolicy;
use serde_json::{Value, json};

use crate::refused;
use crate::stub::{Engine, State, Stub};

pub(crate) fn answer(state: &mut State, path: &str, body: &Value) -> (u16, Value) {
    let fine = (200, json!({}));
    match path {
        "/weight_info" => (200, json!({ "weight_version": state.version.as_deref().unwrap_or("default") })),
        "/collective_rpc" | "/reset_prefix_cache" | "/reset_encoder_cache" | "/reset_mm_cache" => fine,
        "/update_weight_version" => {
            state.version = body["new_version"].as_str().map(str::to_owned);
            fine
        }
        "/v1/load_lora_adapter" => {
            state.adapters.push(body["lora_name"].as_str().unwrap().to_owned());
            fine
        }
        "/v1/unload_lora_adapter" => {
            state.adapters.retain(|name| body["lora_name"] != *name);
            fine
        }
        "/v1/chat/completions" => {
            let model = body["model"].as_str().unwrap().to_owned();
            if model != "base" && !state.adapters.contains(&model) {
                return (404, json!({ "error": { "message": "no such model" } }));
            }
            let text = format!("{model} {}", body["seed"]);
            let logprobs = json!({ "content": [{ "logprob": -1.0 }, { "logprob": -2.0 }] });
            let choice = json!({
                "message": { "content": text }, "finish_reason": state.ending(), "token_ids": [5, 6],
                "logprobs": logprobs
            });
            (200, json!({ "choices": [choice] }))
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_of_other_weights_go_with_the_reload() {
    let (dir, stub, policy) =
        (tempfile::tempdir().unwrap(), Stub::start(Engine::Vllm), FakePolicy::default());
    stub.sampler(dir.path(), json!({})).update(&policy, &policy.fingerprint()).await.unwrap();
    let order = ["/collective_rpc", "/reset_prefix_cache", "/reset_encoder_cache", "/reset_mm_cache"];
    let paths: Vec<_> = stub.state.lock().unwrap().calls.iter().map(|(path, _)| path.clone()).collect();
    let at = paths.iter().position(|path| path == order[0]).unwrap();
    assert_eq!(paths[at..at + 4], order);
    assert_eq!(paths[at + 4], "/update_weight_version", "the name is given when all is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_named_with_its_remedy() {
    let error = refused(Engine::Vllm, ("/collective_rpc", 404, "Not Found"), true).await.to_string();
    assert!(error.contains("start the server with VLLM_SERVER_DEV_MODE=1"), "{error}");
    let refusal = ("/v1/chat/completions", 400, "media_io_kwargs are disabled");
    let error = refused(Engine::Vllm, refusal, false).await;
    assert!(
        matches!(error, ComponentError::Failed(_))
            && error.to_string().contains("--trust-request-mm-kwargs")
    );
}
