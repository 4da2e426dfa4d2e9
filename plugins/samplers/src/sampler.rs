//! The policy's weights on a vLLM server, and responses from it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::try_join_all;
use isr_api::{
    Cause, CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Policy, ReasoningFormat, Response,
    Sampler,
};
use isr_chat::{Answer, Endpoint};
use isr_config::cache_dir;
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock, Semaphore};
use tokio::time::sleep;

use crate::config::VllmConfig;
use crate::process::Server;
use crate::{reply, request};

/// Pause between two looks at a server that starts.
const LOOK: Duration = Duration::from_millis(500);

/// Variables that let a server of ours load weights while it runs.
const VARIABLES: [(&str, &str); 2] =
    [("VLLM_SERVER_DEV_MODE", "1"), ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")];

/// A [`Sampler`] on a vLLM server.
///
/// Which weights the server holds is known by a name made of their fingerprint: that of an adapter, in which requests ask for
/// it, or the server's weight version, which is compared behind each response. A server that was restarted has neither; it is
/// then given the weights again, and the request is repeated.
pub(crate) struct VllmSampler {
    config: VllmConfig,
    endpoint: Endpoint,
    slots: Semaphore,
    /// Folder of weights and log.
    folder: PathBuf,
    /// Weights that the server is to hold.
    weights: RwLock<Option<Weights>>,
    /// Locked while the server is repaired.
    server: Mutex<Option<Server>>,
}

#[derive(Clone)]
struct Weights {
    /// Name that stands for them on the server.
    name: String,
    /// Name of the model that requests ask for.
    model: String,
    checkpoint: PathBuf,
    is_adapter: bool,
    fingerprint: Fingerprint,
    /// How the policy writes reasoning.
    reasoning: Option<ReasoningFormat>,
}

/// Caches of what other weights have computed: of prompts, and of videos in the scheduler, which else takes the worker to have
/// features that it let go when it read the weights.
const CACHES: [&str; 3] = ["/reset_prefix_cache", "/reset_encoder_cache", "/reset_mm_cache"];

/// Starts of a command that ends before it serves, until it is given up.
const STARTS: u32 = 3;

/// What the names of weights begin with.
const PREFIX: &str = "isr-";

/// What became of a request.
enum Outcome {
    Done(Response),
    /// The server is gone, or holds other weights: the reason.
    Lost(String),
}

impl VllmSampler {
    pub(crate) fn new(config: VllmConfig) -> Result<Self, Cause> {
        let folder = match &config.weights_dir {
            Some(path) => path.clone(),
            None => cache_dir("weights").ok_or("there is no home folder; name one as weights_dir")?,
        };
        let folder = std::path::absolute(folder)?;
        fs::create_dir_all(&folder)
            .map_err(|error| format!("weights_dir {}: {error}", folder.display()))?;
        Ok(Self {
            endpoint: config.server().endpoint()?,
            slots: Semaphore::new(config.concurrency),
            folder,
            weights: RwLock::default(),
            server: Mutex::default(),
            config,
        })
    }

    fn failed(&self, reason: impl std::fmt::Display) -> ComponentError {
        ComponentError::failed(format!("sampler vllm at {}: {reason}", self.config.base_url))
    }

    /// Removes weights that are not needed any more, those of earlier runs among them.
    fn remove_others(&self, weights: &Weights) {
        let others = fs::read_dir(&self.folder).into_iter().flatten().flatten().filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with(PREFIX) && *name != *weights.name
        });
        for other in others {
            if let Err(error) = fs::remove_dir_all(other.path()) {
                tracing::warn!(path = %other.path().display(), %error, "weights that are not needed any more stay");
            }
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Answer, ComponentError> {
        self.endpoint.post(path, body).await.map_err(|error| self.failed(error))
    }

    /// Sends a command to the server; `remedy` says how it comes to take it.
    async fn command(&self, path: &str, body: &Value, remedy: &str) -> Result<(), ComponentError> {
        match self.post(path, body).await? {
            Answer::Done(_) => Ok(()),
            Answer::Refused { status, text } => {
                Err(self.failed(format!("{path} was refused: {status} {text}; {remedy}")))
            }
            Answer::Unreachable(reason) => Err(self.failed(format!("{path}: {reason}"))),
        }
    }

    async fn json(&self, path: &str) -> Result<Value, ComponentError> {
        match self.endpoint.get(path).await.map_err(|error| self.failed(error))? {
            Answer::Done(body) => Ok(serde_json::from_slice(&body).unwrap_or_default()),
            _ => Ok(Value::Null),
        }
    }

    /// Whether the server answers and holds the weights.
    async fn holds(&self, weights: &Weights) -> Result<bool, ComponentError> {
        if weights.is_adapter {
            let models = self.json("/v1/models").await?;
            let names = models["data"].as_array().into_iter().flatten().map(|model| &model["id"]);
            return Ok(names.into_iter().any(|name| *name == weights.name));
        }
        Ok(self.json("/weight_info").await?["weight_version"] == weights.name)
    }

    /// Makes the server hold the weights, and starts it where that is ours to do. `lost` is why it does not any more.
    async fn establish(&self, weights: &Weights, lost: Option<&str>) -> Result<(), ComponentError> {
        let mut server = self.server.lock().await;
        // Another request may have repaired it.
        if self.holds(weights).await? {
            return Ok(());
        }
        if let Some(reason) = lost {
            tracing::warn!(reason, "the sampler's server is given the weights again");
        }
        self.wait_until_it_serves(&mut server, weights).await?;
        let path = weights.checkpoint.display().to_string();
        if weights.is_adapter {
            let remedy = "start the server with --enable-lora, --max-lora-rank and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, \
                          on a file system on which it finds the adapter (weights_dir)";
            let body = json!({ "lora_name": weights.name, "lora_path": path });
            return self.command("/v1/load_lora_adapter", &body, remedy).await;
        }
        let remedy = "start the server with VLLM_SERVER_DEV_MODE=1 (vLLM 0.32), on a file system on which it finds the \
                      checkpoint (weights_dir)";
        let body = json!({ "method": "reload_weights", "kwargs": { "weights_path": path } });
        self.command("/collective_rpc", &body, remedy).await?;
        for cache in CACHES {
            self.command(cache, &Value::Null, remedy).await?;
        }
        self.command("/update_weight_version", &json!({ "new_version": weights.name }), remedy).await
    }

    async fn wait_until_it_serves(
        &self,
        server: &mut Option<Server>,
        weights: &Weights,
    ) -> Result<(), ComponentError> {
        let (started, limit) = (Instant::now(), Duration::from_secs_f64(self.config.start_s));
        let mut starts = 0;
        loop {
            if let Answer::Done(_) =
                self.endpoint.get("/health").await.map_err(|error| self.failed(error))?
            {
                return Ok(());
            }
            if !self.config.command.is_empty() {
                let ended = server.as_mut().and_then(Server::ended);
                match (server.is_some(), ended) {
                    (true, None) => {}
                    (_, Some(reason)) if starts == STARTS => return Err(self.failed(reason)),
                    _ => {
                        *server = Some(self.start(weights)?);
                        starts += 1;
                    }
                }
            }
            if started.elapsed() > limit {
                let seconds = self.config.start_s;
                return Err(self.failed(format!("it did not answer within start_s ({seconds} s)")));
            }
            sleep(LOOK).await;
        }
    }

    fn start(&self, weights: &Weights) -> Result<Server, ComponentError> {
        let checkpoint = weights.checkpoint.display().to_string();
        let command: Vec<String> =
            self.config.command.iter().map(|word| word.replace("{checkpoint}", &checkpoint)).collect();
        let mut env = self.config.env.clone();
        for (name, value) in VARIABLES {
            env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let log = self.folder.join("server.log");
        tracing::info!(command = command.join(" "), log = %log.display(), "the sampler's server is started");
        let started = Server::start(&command, &env, &log);
        started.map_err(|error| self.failed(format!("{} cannot be started: {error}", command[0])))
    }

    /// Name of the model that requests ask for.
    async fn model(&self, weights: &Weights) -> Result<String, ComponentError> {
        if weights.is_adapter {
            return Ok(weights.name.clone());
        }
        let models = self.json("/v1/models").await?;
        Ok(models["data"][0]["id"].as_str().unwrap_or_default().to_owned())
    }

    async fn one(
        &self,
        request: &GenerateRequest,
        index: usize,
        weights: &Weights,
    ) -> Result<Response, ComponentError> {
        let _slot = self.slots.acquire().await.map_err(|error| self.failed(error))?;
        let mut reason = String::new();
        for attempt in 0..=self.config.retries {
            if attempt > 0 {
                tracing::debug!(attempt, reason, "a request to the sampler is repeated");
                sleep(LOOK * (1 << (attempt - 1).min(6)) as u32).await;
                self.establish(weights, Some(&reason)).await?;
            }
            match self.ask(request, index, weights).await? {
                Outcome::Done(response) => return Ok(response),
                Outcome::Lost(why) => reason = why,
            }
        }
        let attempts = self.config.retries + 1;
        Err(self.failed(format!("a request failed {attempts} times, at last: {reason}")))
    }

    async fn ask(
        &self,
        request: &GenerateRequest,
        index: usize,
        weights: &Weights,
    ) -> Result<Outcome, ComponentError> {
        let body = request::body(request, index, &weights.model, self.config.media)?;
        let body = match self.post("/v1/chat/completions", &body).await? {
            Answer::Done(body) => body,
            Answer::Unreachable(reason) => return Ok(Outcome::Lost(reason)),
            Answer::Refused { status: 404, text } => return Ok(Outcome::Lost(text)),
            Answer::Refused { status, text } => {
                if let Some(flag) =
                    ["media_io_kwargs", "mm_processor_kwargs"].iter().find(|it| text.contains(**it))
                {
                    let remedy =
                        "start the server with --trust-request-mm-kwargs, or set media = \"images\"";
                    return Err(self.failed(format!("it takes no {flag}; {remedy}")));
                }
                let text = format!("sampler vllm refused the request: {status} {text}");
                return Err(if matches!(status, 400 | 413 | 422) {
                    ComponentError::bad_input(text)
                } else {
                    ComponentError::failed(text)
                });
            }
        };
        // An adapter is asked for by its name.
        if !weights.is_adapter && !self.holds(weights).await? {
            return Ok(Outcome::Lost("the server was restarted, and holds other weights".to_owned()));
        }
        match reply::response(&body, &weights.fingerprint, weights.reasoning.as_ref()) {
            Ok(response) => Ok(Outcome::Done(response)),
            Err(reason) => Err(self.failed(reason)),
        }
    }
}

#[async_trait]
impl Sampler for VllmSampler {
    async fn update(&self, policy: &dyn Policy, weights: &Fingerprint) -> Result<(), ComponentError> {
        let short: String = weights.as_str().chars().take(16).collect();
        let name = format!("{PREFIX}{short}");
        let checkpoint = self.folder.join(&name);
        let before = self.weights.read().await.clone();
        let io = |error| self.failed(format!("{}: {error}", checkpoint.display()));
        if checkpoint.exists() {
            fs::remove_dir_all(&checkpoint).map_err(io)?;
        }
        fs::create_dir_all(&checkpoint).map_err(io)?;
        policy.save(&checkpoint, CheckpointKind::Model).await?;
        let is_adapter = checkpoint.join("adapter_config.json").exists();
        let (model, fingerprint, reasoning) = (String::new(), weights.clone(), policy.reasoning_format());
        let mut weights = Weights { name, model, checkpoint, is_adapter, fingerprint, reasoning };
        self.establish(&weights, None).await?;
        weights.model = self.model(&weights).await?;
        *self.weights.write().await = Some(weights.clone());
        if let Some(old) = before.filter(|old| old.is_adapter && old.name != weights.name) {
            // The server may have thrown it out itself.
            let _ = self.post("/v1/unload_lora_adapter", &json!({ "lora_name": old.name })).await?;
        }
        self.remove_others(&weights);
        Ok(())
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let Some(weights) = self.weights.read().await.clone() else {
            return Err(self.failed("it was given no weights"));
        };
        try_join_all((0..request.n).map(|index| self.one(&request, index, &weights))).await
    }
}
