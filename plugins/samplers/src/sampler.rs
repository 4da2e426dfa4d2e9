//! The policy's weights on a server, and responses from it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::try_join_all;
use isr_api::{
    Cause, CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Policy, Response, Sampler,
};
use isr_chat::{Answer, Endpoint};
use isr_config::cache_dir;
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock, Semaphore};
use tokio::time::sleep;

use crate::config::ServerSettings;
use crate::dialect::{Dialect, Refusal, Weights};
use crate::process::Server;
use crate::reply::Completion;

/// Pause between two looks at a server that starts.
const LOOK: Duration = Duration::from_millis(500);

/// A [`Sampler`] on a server that speaks a [`Dialect`].
///
/// Which weights the server holds is known by a name made of their fingerprint: that of an adapter, in which requests ask for
/// it, or the server's weight version, which is in the response or asked for behind it. A server that was restarted has neither;
/// it is then given the weights again, and the request is repeated.
pub(crate) struct ServerSampler {
    config: ServerSettings,
    dialect: &'static dyn Dialect,
    endpoint: Endpoint,
    slots: Semaphore,
    /// Folder of weights and log.
    folder: PathBuf,
    /// Weights that the server is to hold.
    weights: RwLock<Option<Weights>>,
    /// Locked while the server is repaired.
    server: Mutex<Option<Server>>,
}

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

impl ServerSampler {
    pub(crate) fn new(config: ServerSettings, dialect: &'static dyn Dialect) -> Result<Self, Cause> {
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
            dialect,
        })
    }

    fn failed(&self, reason: impl std::fmt::Display) -> ComponentError {
        ComponentError::failed(format!(
            "sampler {} at {}: {reason}",
            self.dialect.name(),
            self.config.base_url
        ))
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
        Ok(self.json(self.dialect.version_path()).await?["weight_version"] == weights.name)
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
        let loading = self.dialect.loading(weights);
        for (path, body) in &loading.calls {
            self.command(path, body, loading.remedy).await?;
        }
        Ok(())
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
        for (name, value) in self.dialect.variables() {
            env.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        let log = self.folder.join("server.log");
        tracing::info!(command = command.join(" "), log = %log.display(), "the sampler's server is started");
        let started = Server::start(&command, &env, &log);
        started.map_err(|error| self.failed(format!("{} cannot be started: {error}", command[0])))
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
        let body = self.dialect.body(request, index, weights, self.config.media)?;
        let body = match self.post("/v1/chat/completions", &body).await? {
            Answer::Done(body) => body,
            Answer::Unreachable(reason) => return Ok(Outcome::Lost(reason)),
            Answer::Refused { status, text } => return self.refused(status, text, weights),
        };
        let completion = Completion::read(&body).map_err(|reason| self.failed(reason))?;
        // An adapter is asked for by its name.
        if !weights.is_adapter && !self.is_of(&completion, weights).await? {
            return Ok(Outcome::Lost("the server was restarted, and holds other weights".to_owned()));
        }
        match completion.response(&weights.fingerprint, self.dialect.version(), weights.reasoning.as_ref())
        {
            Ok(Some(response)) => Ok(Outcome::Done(response)),
            Ok(None) => Ok(Outcome::Lost("the server gave the request up".to_owned())),
            Err(reason) => Err(self.failed(reason)),
        }
    }

    /// Whether the weights have sampled a response.
    async fn is_of(&self, completion: &Completion, weights: &Weights) -> Result<bool, ComponentError> {
        match completion.weight_versions().as_slice() {
            [] => self.holds(weights).await,
            versions => Ok(versions.iter().all(|version| *version == weights.name)),
        }
    }

    fn refused(&self, status: u16, text: String, weights: &Weights) -> Result<Outcome, ComponentError> {
        match self.dialect.refusal(status, &text, weights) {
            Some(Refusal::Lost) => return Ok(Outcome::Lost(text)),
            Some(Refusal::Setting(reason)) => return Err(self.failed(reason)),
            None => {}
        }
        let text = format!("sampler {} refused the request: {status} {text}", self.dialect.name());
        Err(match status {
            400 | 413 | 422 => ComponentError::bad_input(text),
            _ => ComponentError::failed(text),
        })
    }
}

#[async_trait]
impl Sampler for ServerSampler {
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
        let (served, fingerprint, reasoning) = (Vec::new(), weights.clone(), policy.reasoning_format());
        let mut weights = Weights { name, served, checkpoint, is_adapter, fingerprint, reasoning };
        self.establish(&weights, None).await?;
        for path in self.dialect.served() {
            weights.served.push(self.json(path).await?);
        }
        let caveat = self.dialect.caveat(&weights, self.config.media);
        if let (Some(caveat), None) = (caveat, &before) {
            tracing::warn!(sampler = self.dialect.name(), "{caveat}");
        }
        *self.weights.write().await = Some(weights.clone());
        if let Some(old) = before.filter(|old| old.is_adapter && old.name != weights.name) {
            // The server may have thrown it out itself.
            let _ = self.post(self.dialect.unload_path(), &json!({ "lora_name": old.name })).await?;
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
