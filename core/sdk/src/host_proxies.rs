//! The host's policy and objective as the traits that a component knows: each call is a request to the host.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::messages::RequirementsMessage;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, ObjectiveBatch, ObjectiveValue, Policy,
    PreferenceObjective, Requirements, Response, ScoreRequest, StepReport, TokenLogProbs, TrainStep,
    VideoInput,
};

use crate::batching::RequestBatcher;
use crate::calls;
use crate::current::HostHandle;
use crate::error::RemoteError;
use crate::message::Message;
use crate::messages::TextMessage;

/// The host's policy during one call, read-only.
pub(crate) struct HostPolicy {
    pub(crate) host: HostHandle,
    pub(crate) requests: Arc<RequestBatcher>,
    /// The videos of the call, which cross by index.
    pub(crate) known: Vec<VideoInput>,
}

#[async_trait]
impl Policy for HostPolicy {
    fn fingerprint(&self) -> Fingerprint {
        // A name that no policy has says as much.
        self.try_fingerprint().unwrap_or_else(|error| Fingerprint::of(error.to_string()))
    }

    fn try_fingerprint(&self) -> Result<Fingerprint, ComponentError> {
        let reply = self.host.ask("fingerprint", &Message::default());
        let reply = reply.and_then(|it| it.read::<TextMessage>()).map_err(ComponentError::failed)?;
        Ok(parse_fingerprint(&reply.text))
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.ask("generate", calls::generate_message(&request, &self.known)).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.ask("score", calls::score_message(&request, &self.known)).await
    }

    async fn train_step(
        &self,
        _: TrainStep,
        _: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        Err(frozen())
    }

    async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Err(frozen())
    }

    async fn load(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Err(frozen())
    }
}

fn frozen() -> ComponentError {
    ComponentError::failed("the policy is frozen")
}

/// A fingerprint from its text; the fingerprint of the text where it is none.
pub fn parse_fingerprint(text: &str) -> Fingerprint {
    serde_json::from_value(text.into()).unwrap_or_else(|_| Fingerprint::of(text))
}

impl HostPolicy {
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        request: Result<Message, RemoteError>,
    ) -> Result<T, ComponentError> {
        let request = request.map_err(RemoteError::into_component)?;
        let reply = self.requests.ask(method, request).await;
        reply.and_then(|reply| reply.read()).map_err(RemoteError::into_component)
    }
}

/// The host's objective during a training step.
pub(crate) struct HostObjective {
    host: HostHandle,
    requirements: Requirements,
}

impl HostObjective {
    pub(crate) fn new(host: HostHandle) -> Result<Self, RemoteError> {
        let reply = host.ask("requirements", &Message::default())?;
        let requirements = reply.read::<RequirementsMessage>()?.try_into()?;
        Ok(Self { host, requirements })
    }
}

impl PreferenceObjective for HostObjective {
    fn requirements(&self) -> Requirements {
        self.requirements.clone()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let value = calls::batch_message(batch).and_then(|request| self.host.ask("evaluate", &request));
        value.and_then(|reply| calls::value(&reply)).map_err(RemoteError::into_component)
    }
}
