//! Samplers against servers that speak vLLM's and SGLang's calls: what holds for both.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod sglang;
mod stub;
mod vllm;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Policy, PreferenceObjective, Prompt,
    Response, Sampler, Sampling, ScoreRequest, StepReport, TokenLogProbs, TrainStep,
};
use isr_testing::FakePolicy;
use serde_json::{Value, json};

use stub::{ENGINES, Engine, Stub};

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

/// The error of a server that refuses a path, of an update or of a request.
async fn refused(
    engine: Engine,
    refusal: (&'static str, u16, &'static str),
    on_update: bool,
) -> ComponentError {
    let (dir, stub, policy) = (tempfile::tempdir().unwrap(), Stub::start(engine), FakePolicy::default());
    let sampler = stub.sampler(dir.path(), json!({ "retries": 0 }));
    if !on_update {
        sampler.update(&policy, &policy.fingerprint()).await.unwrap();
    }
    stub.state.lock().unwrap().refusal = Some(refusal);
    match on_update {
        true => sampler.update(&policy, &policy.fingerprint()).await.unwrap_err(),
        false => sampler.generate(request(1, 1)).await.unwrap_err(),
    }
}

/// Path that has a server of full weights read them, and where its body names the folder.
fn reload(engine: Engine) -> (&'static str, &'static str) {
    match engine {
        Engine::Vllm => ("/collective_rpc", "/kwargs/weights_path"),
        Engine::Sglang => ("/update_weights_from_disk", "/model_path"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_response_is_lost_where_the_server_is_restarted() {
    for engine in ENGINES {
        let (dir, stub, policy) =
            (tempfile::tempdir().unwrap(), Stub::start(engine), FakePolicy::default());
        let sampler = stub.sampler(dir.path(), json!({}));
        sampler.update(&policy, &policy.fingerprint()).await.unwrap();
        let whole = texts(&sampler).await;
        assert_eq!(whole.len(), 40);
        stub.state.lock().unwrap().restarts = 6;
        assert_eq!(texts(&sampler).await, whole, "{engine:?}: the same draws from the same weights");
        let (path, pointer) = reload(engine);
        let reloads = stub.asked(path);
        assert!(reloads.len() >= 2, "{engine:?}: {}", reloads.len());
        // The checkpoint that the server read is the policy's, whole and alone.
        let read = Path::new(reloads[0].pointer(pointer).unwrap().as_str().unwrap());
        let files: Vec<_> = read.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["state.json"]);
        let other = FakePolicy::default();
        other.load(read, CheckpointKind::Model).await.unwrap();
        assert_eq!(other.fingerprint(), policy.fingerprint());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_the_server_gives_up_are_repeated() {
    for engine in ENGINES {
        let (dir, stub, policy) =
            (tempfile::tempdir().unwrap(), Stub::start(engine), FakePolicy::default());
        let sampler = stub.sampler(dir.path(), json!({}));
        sampler.update(&policy, &policy.fingerprint()).await.unwrap();
        let whole = texts(&sampler).await;
        stub.state.lock().unwrap().aborts = 3;
        assert_eq!(texts(&sampler).await, whole, "{engine:?}");
        assert_eq!(stub.asked("/v1/chat/completions").len(), 83);
        assert_eq!(stub.asked(reload(engine).0).len(), 1, "{engine:?}: it holds the weights");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_is_asked_for_by_a_name_of_its_weights_and_the_last_one_is_unloaded() {
    for engine in ENGINES {
        let (dir, stub, policy) =
            (tempfile::tempdir().unwrap(), Stub::start(engine), Adapter(FakePolicy::default()));
        let sampler = stub.sampler(dir.path(), json!({}));
        sampler.update(&policy, &Fingerprint::of("one")).await.unwrap();
        let first = texts(&sampler).await;
        let name = first[0].split(' ').next().unwrap().to_owned();
        assert!(name.starts_with("isr-") && first.iter().all(|text| text.starts_with(&name)), "{engine:?}");
        stub.state.lock().unwrap().restarts = 5;
        assert_eq!(texts(&sampler).await, first);
        sampler.update(&policy, &Fingerprint::of("two")).await.unwrap();
        assert!(!texts(&sampler).await[0].starts_with(&name));
        assert_eq!(stub.state.lock().unwrap().adapters.len(), 1);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "older weights are removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_is_quarantined_and_an_engine_that_is_dead_is_an_error() {
    for engine in ENGINES {
        let error = refused(engine, ("/v1/chat/completions", 400, "too long"), false).await;
        assert!(matches!(error, ComponentError::BadInput(_)), "{error}");
        let error = refused(engine, ("/v1/chat/completions", 500, "engine is dead"), false).await;
        assert!(matches!(error, ComponentError::Failed(_)), "{error}");
        let error = error.to_string();
        assert!(error.contains("a request failed 1 times") && error.contains("engine is dead"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_started_or_does_not_come_is_an_error() {
    for engine in ENGINES {
        let (dir, policy, nobody) =
            (tempfile::tempdir().unwrap(), FakePolicy::default(), Stub::absent(engine));
        let fails = |settings: Value| {
            let sampler = nobody.sampler(dir.path(), settings);
            let policy = &policy;
            async move { sampler.update(policy, &policy.fingerprint()).await.unwrap_err().to_string() }
        };
        let error = fails(json!({ "start_s": 0.2 })).await;
        assert!(error.contains("it did not answer within start_s (0.2 s)"), "{error}");
        let said = "echo cannot read $0, $SGLANG_VLM_CACHE_SIZE_MB$VLLM_SERVER_DEV_MODE >&2; exit 4";
        let error = fails(json!({ "command": ["sh", "-c", said, "{checkpoint}"] })).await;
        let variable = if engine == Engine::Vllm { ", 1" } else { ", 0" };
        let said = error.lines().last().unwrap();
        assert!(error.contains("exit status: 4"), "{error}");
        assert!(
            said.starts_with("cannot read ") && said.contains("isr-") && said.ends_with(variable),
            "{error}"
        );
    }
}
