//! The sampler against a server that speaks vLLM's calls, and is restarted, overloaded or gone.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::{
    BuildContext, CheckpointKind, Component, ComponentError, Fingerprint, GenerateRequest, Policy,
    PreferenceObjective, Prompt, Response, Sampler, Sampling, ScoreRequest, StepReport, TokenLogProbs,
    TrainStep,
};
use isr_samplers::VllmConfig;
use isr_testing::FakePolicy;
use serde_json::{Value, json};

/// What the server holds and was asked; a restart forgets the first.
#[derive(Default)]
struct State {
    version: Option<String>,
    adapters: Vec<String>,
    calls: Vec<(String, Value)>,
    /// Completions that are answered by a restart, with and without an answer in turn.
    restarts: usize,
    /// Answer to a path in place of the usual one.
    refusal: Option<(&'static str, u16, &'static str)>,
}

#[derive(Clone)]
struct Stub {
    state: Arc<Mutex<State>>,
    url: String,
}

impl Stub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stub = Self { state: Arc::default(), url };
        let served = stub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let stub = served.clone();
                std::thread::spawn(move || stub.serve(stream));
            }
        });
        stub
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let Some((status, answer)) = self.answer(&path, &body) else { return };
        let text = answer.to_string();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
    }

    /// Status and body; `None` where the connection breaks.
    fn answer(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let mut state = self.state.lock().unwrap();
        state.calls.push((path.to_owned(), body.clone()));
        if let Some((of, status, text)) = state.refusal
            && path == of
        {
            return Some((status, json!({ "error": { "message": text } })));
        }
        let names = std::iter::once("base").chain(state.adapters.iter().map(String::as_str));
        let models: Vec<_> = names.map(|id| json!({ "id": id })).collect();
        let fine = json!({});
        Some(match path {
            "/health" => (200, fine),
            "/v1/models" => (200, json!({ "data": models })),
            "/weight_info" => {
                (200, json!({ "weight_version": state.version.as_deref().unwrap_or("default") }))
            }
            "/collective_rpc" | "/reset_prefix_cache" | "/reset_encoder_cache" | "/reset_mm_cache" => {
                (200, fine)
            }
            "/update_weight_version" => {
                state.version = body["new_version"].as_str().map(str::to_owned);
                (200, fine)
            }
            "/v1/load_lora_adapter" => {
                state.adapters.push(body["lora_name"].as_str().unwrap().to_owned());
                (200, fine)
            }
            "/v1/unload_lora_adapter" => {
                state.adapters.retain(|name| body["lora_name"] != *name);
                (200, fine)
            }
            "/v1/chat/completions" => {
                let model = body["model"].as_str().unwrap().to_owned();
                if state.restarts > 0 {
                    state.restarts -= 1;
                    (state.version, state.adapters) = (None, Vec::new());
                    // The connection breaks, or the new server answers with the weights that it was started with.
                    if state.restarts % 2 == 1 {
                        return None;
                    }
                }
                if model != "base" && !state.adapters.contains(&model) {
                    return Some((404, json!({ "error": { "message": "no such model" } })));
                }
                let text = format!("{model} {}", body["seed"]);
                let logprobs = json!({ "content": [{ "logprob": -1.0 }, { "logprob": -2.0 }] });
                let choice = json!({
                    "message": { "content": text }, "finish_reason": "stop", "token_ids": [5, 6], "logprobs": logprobs
                });
                (200, json!({ "choices": [choice] }))
            }
            other => panic!("{other}"),
        })
    }

    fn sampler(&self, dir: &Path, settings: Value) -> Arc<dyn Sampler> {
        let mut all = json!({ "base_url": self.url, "weights_dir": dir, "start_s": 20.0 });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let config: VllmConfig = serde_json::from_value(all).unwrap();
        config.validate().unwrap();
        config.build(&BuildContext::default()).unwrap()
    }

    fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.iter().map(|(path, _)| path.clone()).collect()
    }
}

/// Saves an adapter.
struct Adapter(FakePolicy);

#[async_trait]
impl Policy for Adapter {
    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.0.generate(request).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.0.score(request).await
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        self.0.train_step(step, objective).await
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        std::fs::write(dir.join("adapter_config.json"), "{}").map_err(ComponentError::failed)?;
        self.0.save(dir, what).await
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.0.load(dir, what).await
    }
}

fn request(seed: u64, n: usize) -> GenerateRequest {
    GenerateRequest { prompt: Prompt::text("why"), sampling: Sampling::default(), n, seed }
}

/// Texts of 20 requests at once, of two responses each.
async fn texts(sampler: &Arc<dyn Sampler>) -> Vec<String> {
    let all = futures::future::join_all((0..20).map(|seed| sampler.generate(request(seed, 2)))).await;
    all.into_iter().flat_map(|responses| responses.unwrap()).map(|response| response.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_response_is_lost_where_the_server_is_restarted() {
    let (dir, stub, policy) = (tempfile::tempdir().unwrap(), Stub::start(), FakePolicy::default());
    let sampler = stub.sampler(dir.path(), json!({}));
    sampler.update(&policy, &policy.fingerprint()).await.unwrap();
    let whole = texts(&sampler).await;
    assert_eq!(whole.len(), 40);
    stub.state.lock().unwrap().restarts = 6;
    assert_eq!(texts(&sampler).await, whole, "the same draws from the same weights");
    assert!(stub.paths().iter().filter(|path| *path == "/collective_rpc").count() >= 2);
    // The checkpoint that the server read.
    let calls = stub.state.lock().unwrap().calls.clone();
    let reload = &calls.iter().find(|(path, _)| path == "/collective_rpc").unwrap().1;
    let path = reload["kwargs"]["weights_path"].as_str().unwrap();
    assert!(
        Path::new(path).join("fake_policy.json").exists()
            || Path::new(path).read_dir().unwrap().count() > 0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_is_asked_for_by_a_name_of_its_weights_and_the_last_one_is_unloaded() {
    let (dir, stub, policy) = (tempfile::tempdir().unwrap(), Stub::start(), Adapter(FakePolicy::default()));
    let sampler = stub.sampler(dir.path(), json!({}));
    sampler.update(&policy, &Fingerprint::of("one")).await.unwrap();
    let first = texts(&sampler).await;
    let name = first[0].split(' ').next().unwrap().to_owned();
    assert!(name.starts_with("isr-") && first.iter().all(|text| text.starts_with(&name)));
    stub.state.lock().unwrap().restarts = 5;
    assert_eq!(texts(&sampler).await, first);
    sampler.update(&policy, &Fingerprint::of("two")).await.unwrap();
    assert!(!texts(&sampler).await[0].starts_with(&name));
    assert_eq!(stub.state.lock().unwrap().adapters.len(), 1);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "older weights are removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_named_with_its_remedy() {
    let policy = FakePolicy::default();
    let refused = |refusal, on_update: bool| {
        let policy = &policy;
        async move {
            let (dir, stub) = (tempfile::tempdir().unwrap(), Stub::start());
            let sampler = stub.sampler(dir.path(), json!({ "retries": 0 }));
            if !on_update {
                sampler.update(policy, &policy.fingerprint()).await.unwrap();
            }
            stub.state.lock().unwrap().refusal = Some(refusal);
            match on_update {
                true => sampler.update(policy, &policy.fingerprint()).await.unwrap_err(),
                false => sampler.generate(request(1, 1)).await.unwrap_err(),
            }
        }
    };
    let error = refused(("/collective_rpc", 404, "Not Found"), true).await.to_string();
    assert!(error.contains("start the server with VLLM_SERVER_DEV_MODE=1"), "{error}");
    let error = refused(("/v1/chat/completions", 400, "too long"), false).await;
    assert!(matches!(error, ComponentError::BadInput(_)), "{error}");
    let error = refused(("/v1/chat/completions", 400, "media_io_kwargs are disabled"), false).await;
    assert!(
        matches!(error, ComponentError::Failed(_))
            && error.to_string().contains("--trust-request-mm-kwargs")
    );
    let error = refused(("/v1/chat/completions", 500, "engine is dead"), false).await.to_string();
    assert!(error.contains("a request failed 1 times") && error.contains("engine is dead"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_started_or_does_not_come_is_an_error() {
    let (dir, policy) = (tempfile::tempdir().unwrap(), FakePolicy::default());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Stub { state: Arc::default(), url: format!("http://127.0.0.1:{port}") };
    let fails = |settings: Value| {
        let sampler = nobody.sampler(dir.path(), settings);
        let policy = &policy;
        async move { sampler.update(policy, &policy.fingerprint()).await.unwrap_err().to_string() }
    };
    let error = fails(json!({ "start_s": 0.2 })).await;
    assert!(error.contains("it did not answer within start_s (0.2 s)"), "{error}");
    let command = json!({ "command": ["sh", "-c", "echo cannot read $0 >&2; exit 4", "{checkpoint}"] });
    let error = fails(command).await;
    assert!(
        error.contains("exit status: 4") && error.contains("cannot read") && error.contains("isr-"),
        "{error}"
    );
}
