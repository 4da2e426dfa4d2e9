//! What a plugin asks, answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use isr_api::{
    ComponentError, FrozenPolicy, GenerateRequest, PreferenceObjective, ScoreRequest, VideoInput,
};
use isr_plugin::host::HostSide;
use isr_plugin::wire::{
    self, GenerateForm, Message, RemoteError, RequirementsForm, ScoreForm, TOGETHER, TextForm,
};
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;

use crate::watch::Clock;

/// The program's side of one call.
#[derive(Clone)]
pub(crate) struct Answers {
    plugin: Arc<str>,
    /// Answers of the policy are awaited here.
    runtime: Option<Handle>,
    policy: Option<FrozenPolicy>,
    known: Vec<VideoInput>,
    objective: Option<Arc<dyn PreferenceObjective>>,
    cancelled: Arc<AtomicBool>,
    clock: Option<Clock>,
}

impl Answers {
    /// For calls in which nobody may be asked.
    pub(crate) fn nobody(plugin: &str) -> Self {
        let plugin = Arc::from(plugin);
        let (known, cancelled) = Default::default();
        Self { plugin, runtime: None, policy: None, known, objective: None, cancelled, clock: None }
    }

    /// For a call about one video, in which the policy may be asked.
    pub(crate) fn policy(plugin: &str, policy: &FrozenPolicy, scene: &VideoInput) -> Self {
        let (policy, known) = (Some(policy.clone()), vec![scene.clone()]);
        Self { policy, known, ..Self::nobody(plugin) }
    }

    /// For a training step.
    pub(crate) fn objective(plugin: &str, objective: Arc<dyn PreferenceObjective>) -> Self {
        Self { objective: Some(objective), ..Self::nobody(plugin) }
    }

    /// With who awaits, who is told that nobody waits, and who is told that the plugin is not silent.
    pub(crate) fn of_call(self, runtime: Option<Handle>, cancelled: Arc<AtomicBool>, clock: Clock) -> Self {
        Self { runtime, cancelled, clock: Some(clock), ..self }
    }

    /// Answers one question.
    async fn answer(&self, method: &str, request: &Message) -> Result<Message, RemoteError> {
        match (method, &self.policy, &self.objective) {
            ("fingerprint", Some(policy), _) => {
                Message::new(&TextForm { text: policy.fingerprint().to_string() }, Vec::new())
            }
            ("generate", Some(policy), _) => {
                let GenerateForm { prompt, sampling, n, seed } = request.form()?;
                let prompt = wire::prompt(request, prompt, &self.known)?;
                let asked = GenerateRequest { prompt, sampling, n, seed };
                Message::new(&self.wait(policy.generate(asked)).await?, Vec::new())
            }
            ("score", Some(policy), _) => {
                let ScoreForm { prompt, continuations } = request.form()?;
                let prompt = wire::prompt(request, prompt, &self.known)?;
                let asked = ScoreRequest { prompt, continuations };
                Message::new(&self.wait(policy.score(asked)).await?, Vec::new())
            }
            ("requirements", _, Some(objective)) => {
                Message::new(&RequirementsForm::from(&objective.requirements()), Vec::new())
            }
            ("evaluate", _, Some(objective)) => {
                let value = objective.evaluate(&wire::batch(request)?);
                wire::value_message(&value.map_err(|error| RemoteError::from_component(&error))?)
            }
            _ => Err(RemoteError::failed(format!("`{method}` cannot be asked for in this call"))),
        }
    }

    /// Answers several questions at the same time.
    async fn together(&self, request: &Message) -> Result<Message, RemoteError> {
        let questions = wire::questions(request)?;
        let answers = questions.iter().map(|(method, request)| self.answer(method, request));
        wire::answers_message(join_all(answers).await)
    }

    async fn wait<T>(
        &self,
        future: impl Future<Output = Result<T, ComponentError>>,
    ) -> Result<T, RemoteError> {
        if self.cancelled() {
            return Err(RemoteError::new("cancelled", "cancelled"));
        }
        future.await.map_err(|error| RemoteError::from_component(&error))
    }

    fn answer_now(&self, method: &str, request: &Message) -> Result<Message, RemoteError> {
        let Some(runtime) = &self.runtime else {
            return Err(RemoteError::failed(format!("`{method}` can be asked for during a call only")));
        };
        runtime.block_on(async {
            match method {
                TOGETHER => self.together(request).await,
                _ => self.answer(method, request).await,
            }
        })
    }
}

impl HostSide for Answers {
    fn wants(&self, level: u8) -> bool {
        let wanted = match LevelFilter::current().into_level() {
            None => 0,
            Some(tracing::Level::ERROR) => 1,
            Some(tracing::Level::WARN) => 2,
            Some(tracing::Level::INFO) => 3,
            Some(tracing::Level::DEBUG) => 4,
            Some(tracing::Level::TRACE) => 5,
        };
        level <= wanted
    }

    fn log(&self, level: u8, target: &str, message: &str) {
        let plugin = self.plugin.as_ref();
        match level {
            0 | 1 => tracing::error!(plugin, target, "{message}"),
            2 => tracing::warn!(plugin, target, "{message}"),
            3 => tracing::info!(plugin, target, "{message}"),
            4 => tracing::debug!(plugin, target, "{message}"),
            _ => tracing::trace!(plugin, target, "{message}"),
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn ask(&self, method: &str, request: &Message) -> Result<Message, RemoteError> {
        match &self.clock {
            Some(clock) => clock.paused(|| self.answer_now(method, request)),
            None => self.answer_now(method, request),
        }
    }
}
