//! A policy in a process.

mod streaming;
mod training;
mod weights;
mod whole_step;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::lock::Mutex;
use isr_api::messages::{
    AnswerMessage, CheckpointMessage, FingerprintMessage, GenerateCall, GenerateMessage, GeneratedMessage,
    PolicyProperties, ScoreMessage, ScoredMessage,
};
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Policy, PreferenceObjective,
    ProgressSender, ReasoningFormat, Response, ScoreRequest, StepReport, TokenLogProbs, TrainStep,
};
use isr_config::plugin::PluginError;
use serde::Serialize;
use serde_json::Value;

use super::{Identity, call_error, params};
use crate::error::{SessionError, SessionErrorKind};
use crate::exchange::Exchange;
use crate::keys;
use crate::session::{CallOptions, Sending, Session};
use streaming::Streaming;
use weights::Weights;

/// Largest number of examples of a micro-batch.
const LARGEST_MICRO_BATCH: usize = 1 << 16;

/// A [`Policy`] whose component runs in a [`Session`]'s process, with a model of its own.
///
/// Videos cross in files. A training step is split into micro-batches: the process computes log-probs and gradients of the
/// weights, the objective is evaluated here. A process that takes whole steps asks for the objective's values instead.
pub struct RemotePolicy {
    identity: Identity,
    // Dropped first: the folder outlives the process.
    session: Session,
    exchange: Arc<Exchange>,
    micro_batch: usize,
    reasoning: Option<ReasoningFormat>,
    reads_frames: bool,
    /// Whether the process takes training steps as a whole.
    whole_steps: bool,
    weights: Weights,
    /// Held by what must not come between the calls of a training step.
    training: Mutex<()>,
}

impl RemotePolicy {
    /// A policy on a session with an exchange folder.
    ///
    /// # Errors
    /// The plugin does not answer `properties`, or with some that cannot be used.
    pub(crate) fn new(
        identity: Identity,
        session: Session,
        exchange: Arc<Exchange>,
    ) -> Result<Self, SessionError> {
        let value = session.call_blocking("properties", Value::Null)?;
        let PolicyProperties { fingerprint, micro_batch, encoder, reasoning, reads_frames, whole_steps } =
            keys::read(value).map_err(SessionErrorKind::Unusable)?;
        if micro_batch == 0 || micro_batch > LARGEST_MICRO_BATCH {
            let text = format!("its micro_batch is {micro_batch}; it must be 1 to {LARGEST_MICRO_BATCH}");
            return Err(SessionErrorKind::Unusable(text).into());
        }
        if encoder.is_some() {
            let text = "it tells of an encoder of its own, which this version does not take".to_owned();
            return Err(SessionErrorKind::Unusable(text).into());
        }
        if let Some(Err(reason)) = reasoning.as_ref().map(|format| format.markers.check()) {
            return Err(SessionErrorKind::Unusable(format!("its reasoning {reason}")).into());
        }
        let weights = Weights::new(&identity, fingerprint).map_err(SessionErrorKind::Unusable)?;
        Ok(Self {
            identity,
            session,
            exchange,
            micro_batch,
            reasoning,
            reads_frames,
            whole_steps,
            weights,
            training: Mutex::new(()),
        })
    }

    fn wrong(&self, call: &'static str, message: String) -> ComponentError {
        PluginError::new(&self.identity.name, call, message).failed()
    }

    /// What a plugin answered is no sample's fault: other samples would fare no better.
    fn unusable(&self, call: &'static str, reason: String) -> ComponentError {
        self.wrong(call, SessionErrorKind::Unusable(reason).to_string())
    }

    /// Calls a method of training: alone and once, without anybody's sample to blame.
    async fn once(
        &self,
        method: &'static str,
        message: &(impl Serialize + Sync),
        sending: Sending,
    ) -> Result<Value, SessionError> {
        let message = serde_json::to_value(message).map_err(|error| {
            SessionError::from(SessionErrorKind::Batch(format!("it cannot be sent: {error}")))
        })?;
        let options = CallOptions { sending, ..CallOptions::default() };
        self.session.call_with(method, message, options).await
    }

    async fn answers(
        &self,
        request: GenerateRequest,
        progress: Option<ProgressSender>,
    ) -> Result<Vec<Response>, ComponentError> {
        const CALL: &str = "generate";
        let before = self.weights.known().map_err(|reason| self.wrong(CALL, reason))?;
        let mut lease = self.exchange.lease();
        let GenerateRequest { prompt, sampling, n, seed } = request;
        let prompt = lease.prompt(&prompt)?;
        let streaming = progress.map(|progress| Streaming::new(progress, n, sampling.max_new_tokens));
        let stream = streaming.is_some();
        let message = GenerateCall { request: GenerateMessage { prompt, sampling, n, seed }, stream };
        let on_progress = streaming.as_ref().map(Streaming::receiver);
        let options = CallOptions { on_progress, ..CallOptions::default() };
        let value = self.session.call_with(CALL, params(&message)?, options).await;
        let value = value.map_err(|error| call_error(&self.identity.name, CALL, &error))?;
        let read = || {
            let told: GeneratedMessage = keys::read(value)?;
            let policy = self.weights.same(&self.identity, &told.policy, &before)?;
            let response = |AnswerMessage { text, token_ids, logprobs, finish_reason, reasoning }| {
                Response { text, token_ids, logprobs, finish_reason, policy: policy.clone(), reasoning }
            };
            let responses: Vec<Response> = told.responses.into_iter().map(response).collect();
            streaming.map_or(Ok(()), |streaming| streaming.end(told.prompt_tokens, &responses))?;
            Ok(responses)
        };
        read().map_err(|reason| self.unusable(CALL, reason))
    }
}

#[async_trait]
impl Policy for RemotePolicy {
    fn fingerprint(&self) -> Fingerprint {
        self.weights.last()
    }

    fn try_fingerprint(&self) -> Result<Fingerprint, ComponentError> {
        self.weights.known().map_err(|reason| self.wrong("fingerprint", reason))
    }

    fn reads_frames(&self) -> bool {
        self.reads_frames
    }

    fn reasoning_format(&self) -> Option<ReasoningFormat> {
        self.reasoning.clone()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.answers(request, None).await
    }

    async fn generate_streaming(
        &self,
        request: GenerateRequest,
        progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        self.answers(request, Some(progress)).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        const CALL: &str = "score";
        let before = self.weights.known().map_err(|reason| self.wrong(CALL, reason))?;
        let mut lease = self.exchange.lease();
        let ScoreRequest { prompt, continuations } = request;
        let message = ScoreMessage { prompt: lease.prompt(&prompt)?, continuations };
        let value = self.session.call(CALL, params(&message)?, None).await;
        let value = value.map_err(|error| call_error(&self.identity.name, CALL, &error))?;
        let read = || {
            let told: ScoredMessage = keys::read(value)?;
            self.weights.same(&self.identity, &told.policy, &before)?;
            Ok(told.scores)
        };
        read().map_err(|reason| self.unusable(CALL, reason))
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        let _training = self.training.lock().await;
        match self.whole_steps {
            true => self.whole_step(step, objective.as_ref()).await,
            false => self.step(&step, objective.as_ref()).await,
        }
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        let _training = self.training.lock().await;
        let failed = |reason: String| self.wrong("save", reason);
        let message = CheckpointMessage::new(dir, what).map_err(|error| failed(error.to_string()))?;
        let saved = self.once("save", &message, Sending::Alone).await;
        saved.map(drop).map_err(|error| failed(error.to_string()))
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        let _training = self.training.lock().await;
        let failed = |reason: String| self.wrong("load", reason);
        let message = CheckpointMessage::new(dir, what).map_err(|error| failed(error.to_string()))?;
        let change = self.weights.begin();
        match self.once("load", &message, Sending::Changing).await {
            Ok(value) => {
                let read = || {
                    let FingerprintMessage { fingerprint } = keys::read(value)?;
                    change.done(&self.identity, fingerprint)
                };
                read().map_err(|reason| self.unusable("load", reason))
            }
            Err(error) => {
                // A load that is refused changes nothing.
                if matches!(error.kind, SessionErrorKind::Reported { .. }) {
                    change.refused();
                }
                Err(failed(error.to_string()))
            }
        }
    }
}
