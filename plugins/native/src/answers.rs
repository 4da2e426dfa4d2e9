//! The host's side of a call: log, cancellation, and answers to the plugin's questions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use isr_api::messages::MessageError;
use isr_api::{ComponentError, FrozenPolicy, PreferenceObjective, VideoInput};
use isr_plugin::host::HostSide;
use isr_plugin::wire::{
    self, Message, QuestionLimits, RemoteError, RequirementsMessage, TOGETHER, TextMessage,
};
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;

use crate::watch::Clock;

/// Limits of a library's questions.
const LIMITS: QuestionLimits = QuestionLimits::DEFAULT;

/// The host's side of one call.
#[derive(Clone)]
pub(crate) struct Answers {
    plugin: Arc<str>,
    /// Where the policy's answers are awaited.
    runtime: Option<Handle>,
    policy: Option<FrozenPolicy>,
    known: Vec<VideoInput>,
    objective: Option<Arc<dyn PreferenceObjective>>,
    cancelled: Arc<AtomicBool>,
    clock: Option<Clock>,
    /// Number of questions to the policy so far.
    asked: Arc<AtomicUsize>,
}

impl Answers {
    /// For a call without questions.
    pub(crate) fn nobody(plugin: &str) -> Self {
        let plugin = Arc::from(plugin);
        let (known, cancelled, asked) = Default::default();
        Self { plugin, runtime: None, policy: None, known, objective: None, cancelled, clock: None, asked }
    }

    /// For a call about one video, during which the policy may be asked.
    pub(crate) fn policy(plugin: &str, policy: &FrozenPolicy, scene: &VideoInput) -> Self {
        let (policy, known) = (Some(policy.clone()), vec![scene.clone()]);
        Self { policy, known, ..Self::nobody(plugin) }
    }

    /// For a training step, during which the objective is evaluated.
    pub(crate) fn objective(plugin: &str, objective: Arc<dyn PreferenceObjective>) -> Self {
        Self { objective: Some(objective), ..Self::nobody(plugin) }
    }

    /// With the call's runtime, cancellation flag and clock.
    pub(crate) fn of_call(self, runtime: Option<Handle>, cancelled: Arc<AtomicBool>, clock: Clock) -> Self {
        Self { runtime, cancelled, clock: Some(clock), ..self }
    }

    /// Answers one question, within the limits.
    async fn answer(&self, method: &str, request: &Message) -> Result<Message, RemoteError> {
        match (method, &self.policy, &self.objective) {
            ("fingerprint", Some(policy), _) => {
                let fingerprint =
                    policy.try_fingerprint().map_err(|error| RemoteError::from_component(&error))?;
                let text = fingerprint.to_string();
                Message::new(&TextMessage { text }, Vec::new())
            }
            ("generate", Some(policy), _) => {
                let asked = wire::generate_request(request, &self.known)?;
                self.admit(LIMITS.check_generate(&asked))?;
                Message::new(&self.wait(policy.generate(asked)).await?, Vec::new())
            }
            ("score", Some(policy), _) => {
                let asked = wire::score_request(request, &self.known)?;
                self.admit(LIMITS.check_score(&asked))?;
                Message::new(&self.wait(policy.score(asked)).await?, Vec::new())
            }
            ("requirements", _, Some(objective)) => {
                let required = RequirementsMessage::from(&objective.requirements()).with_per_token();
                Message::new(&required, Vec::new())
            }
            ("evaluate", _, Some(objective)) => {
                let value = objective.evaluate(&wire::batch(request)?);
                wire::value_message(&value.map_err(|error| RemoteError::from_component(&error))?)
            }
            _ => Err(RemoteError::failed(format!("`{method}` cannot be asked for in this call"))),
        }
    }

    /// Counts a question to the policy, and refuses one that exceeds a limit. A refusal is logged too, since the
    /// plugin may keep it to itself.
    fn admit(&self, size: Result<(), MessageError>) -> Result<(), RemoteError> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let admitted = size.and_then(|()| LIMITS.check_count(asked));
        admitted.map_err(|error| {
            tracing::warn!(plugin = self.plugin.as_ref(), "a question is refused: {error}");
            error.into()
        })
    }

    /// Answers a batch of questions, so many at a time as may be in flight.
    async fn batch(&self, request: &Message) -> Result<Message, RemoteError> {
        let questions = wire::questions(request)?;
        if questions.len() > LIMITS.open {
            let (count, most) = (questions.len(), LIMITS.open);
            let text = format!("{count} questions in one batch; a plugin may ask at most {most} at once");
            return Err(RemoteError::failed(text));
        }
        let answers = questions.iter().map(|(method, request)| self.answer(method, request));
        wire::answers_message(stream::iter(answers).buffered(LIMITS.in_flight).collect().await)
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
                TOGETHER => self.batch(request).await,
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
