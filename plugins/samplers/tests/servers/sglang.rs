//! SGLang's calls (0.5.23), and what holds for them alone.

use std::path::Path;
use std::sync::Arc;

use isr_api::{ComponentError, Fingerprint, Frames, Policy, Prompt, VideoInput};
use isr_testing::FakePolicy;
use serde_json::{Value, json};

use crate::stub::{Engine, State, Stub};
use crate::{Adapter, refused, request};

pub(crate) fn answer(state: &mut State, path: &str, body: &Value) -> (u16, Value) {
    let version = || state.version.clone().unwrap_or_else(|| "default".to_owned());
    match path {
        "/model_info" => (200, json!({ "weight_version": version(), "model_type": "qwen3_vl" })),
        "/server_info" => {
            (200, json!({ "version": "0.5.23", "mm_process_config": { "video": { "fps": 1000 } } }))
        }
        "/update_weights_from_disk" => {
            if !Path::new(body["model_path"].as_str().unwrap()).is_dir() {
                return (400, json!({ "success": false, "message": "Failed to get weights iterator" }));
            }
            state.version = body["weight_version"].as_str().map(str::to_owned);
            (200, json!({ "success": true, "message": "Succeeded to update model weights." }))
        }
        "/load_lora_adapter" => {
            state.adapters.push(body["lora_name"].as_str().unwrap().to_owned());
            (200, json!({ "success": true }))
        }
        "/unload_lora_adapter" => {
            state.adapters.retain(|name| body["lora_name"] != *name);
            (200, json!({ "success": true }))
        }
        "/v1/chat/completions" => {
            if body["top_k"] == 0 {
                return (400, json!({ "message": "top_k must be -1 (disable) or at least 1, got 0." }));
            }
            let adapter = body["lora_path"].as_str();
            if let Some(name) = adapter.filter(|name| state.adapters.iter().all(|it| it != name)) {
                let text = format!("Got LoRA adapter that has never been loaded: {name}");
                return (400, json!({ "object": "error", "message": text, "code": 400 }));
            }
            let text = format!("{} {}", adapter.unwrap_or("base"), body["seed"]);
            let stretches = json!([{ "version": version(), "start": 0, "end": 2 }]);
            let metadata = json!({ "weight_version": version(), "weight_versions": stretches });
            let logprobs = json!({ "content": [{ "logprob": -1.0 }, { "logprob": -2.0 }] });
            let choice = json!({
                "message": { "content": text }, "finish_reason": state.ending(), "response_token_ids": [5, 6],
                "logprobs": logprobs
            });
            (200, json!({ "choices": [choice], "metadata": metadata }))
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_one_call_and_responses_tell_their_weights_themselves() {
    let (dir, stub, policy) =
        (tempfile::tempdir().unwrap(), Stub::start(Engine::Sglang), FakePolicy::default());
    let sampler = stub.sampler(dir.path(), json!({}));
    sampler.update(&policy, &policy.fingerprint()).await.unwrap();
    let updates = stub.asked("/update_weights_from_disk");
    let [update] = updates.as_slice() else { panic!("{updates:?}") };
    assert_eq!((&update["flush_cache"], &update["abort_all_requests"]), (&json!(true), &json!(true)));
    let before = stub.asked("/model_info").len();
    let responses = sampler.generate(request(1, 2)).await.unwrap();
    assert!(responses.iter().all(|it| it.token_ids == [5, 6] && it.logprobs == [-1.0, -2.0]));
    assert_eq!(stub.asked("/model_info").len(), before);
    let body = &stub.asked("/v1/chat/completions")[0];
    assert_eq!(
        (&body["top_k"], &body["lora_path"], &body["separate_reasoning"]),
        (&json!(-1), &json!(null), &json!(false))
    );
    assert_eq!((&body["logprobs"], &body["return_token_ids"]), (&json!(true), &json!(true)));
    assert_eq!(body["model"], update["weight_version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_a_video_file_or_pictures() {
    let (dir, stub, policy) =
        (tempfile::tempdir().unwrap(), Stub::start(Engine::Sglang), FakePolicy::default());
    let ask = |times: Vec<f64>, media: &str| {
        let sampler = stub.sampler(dir.path(), json!({ "media": media }));
        let rgb = vec![7; times.len() * 12];
        let frames = Arc::new(Frames::new(2, 2, rgb, times).unwrap());
        let mut request = request(1, 1);
        request.prompt =
            Prompt::about(&VideoInput { video: "clip.mp4".into(), frames, features: None }, "what?");
        let policy = &policy;
        async move {
            sampler.update(policy, &policy.fingerprint()).await.unwrap();
            sampler.generate(request).await
        }
    };
    ask(vec![0.0, 0.5, 1.0, 1.5], "video").await.unwrap();
    ask(vec![0.0, 0.5, 3.0], "images").await.unwrap();
    let bodies = stub.asked("/v1/chat/completions");
    let content = |index: usize| bodies[index]["messages"][0]["content"].as_array().unwrap().clone();
    let url = content(0)[0]["video_url"]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("data:video/x-msvideo;base64,UklGR"), "{url}");
    let pictures = content(1);
    assert_eq!(pictures.len(), 4);
    assert!(pictures[2]["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,iVBOR"));
    // The server's model, Qwen3-VL, is told times in words.
    for (times, part) in [
        (vec![0.0, 0.5, 3.0, 3.5], "frame 1 is at 0.50 s, not at 1.17 s"),
        (vec![2.0, 2.5], "frame 0 is at 2.00 s, not at 0.00 s"),
        (vec![0.0, 0.5, 1.0], "3 frames, an odd number"),
    ] {
        let error = ask(times, "video").await.unwrap_err();
        assert!(matches!(error, ComponentError::Failed(_)), "{error}");
        let error = error.to_string();
        assert!(error.contains(part) && error.contains("sampler.media = \"images\""), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_named_with_its_remedy() {
    let refusal = ("/update_weights_from_disk", 400, "Failed to get weights iterator");
    let error = refused(Engine::Sglang, refusal, true).await.to_string();
    assert!(error.contains("Failed to get weights iterator") && error.contains("weights_dir"), "{error}");
    let refusal = ("/v1/chat/completions", 400, "Could not decode video: no decoder");
    let error = refused(Engine::Sglang, refusal, false).await;
    assert!(matches!(error, ComponentError::Failed(_)), "{error}");
    assert!(error.to_string().contains("or set media = \"images\""), "{error}");

    let (dir, stub) = (tempfile::tempdir().unwrap(), Stub::start(Engine::Sglang));
    stub.state.lock().unwrap().refusal = Some(("/load_lora_adapter", 400, "LoRA is not enabled."));
    let sampler = stub.sampler(dir.path(), json!({}));
    let error = sampler.update(&Adapter(FakePolicy::default()), &Fingerprint::of("one")).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("LoRA is not enabled.") && error.contains("--lora-target-modules"), "{error}");
}
