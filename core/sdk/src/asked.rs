//! What a component asks of the program: the policy and the objective, as the traits that it knows.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, ObjectiveBatch, ObjectiveValue, Policy,
    PreferenceObjective, Requirements, Response, ScoreRequest, StepReport, TokenLogProbs, TrainStep,
    VideoInput,
};

use crate::calls;
use crate::current::HostHandle;
use crate::error::RemoteError;
use crate::form::{GenerateForm, RequirementsForm, ScoreForm, TextForm};
use crate::message::Message;
use crate::pack::Packing;
use crate::together::Questions;

/// The policy of the call under way.
pub(crate) struct HostPolicy {
    pub(crate) host: HostHandle,
    pub(crate) questions: Arc<Questions>,
    /// The videos of the call.
    pub(crate) known: Vec<VideoInput>,
}

#[async_trait]
impl Policy for HostPolicy {
    fn fingerprint(&self) -> Fingerprint {
        let reply = self.host.ask("fingerprint", &Message::default()).and_then(|it| it.form::<TextForm>());
        // The trait allows no error here; a name that no policy has says as much.
        reply.map_or_else(|error| Fingerprint::of(error.to_string()), |it| parse_fingerprint(&it.text))
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let GenerateRequest { prompt, sampling, n, seed } = request;
        let mut packing = Packing { known: &self.known, ..Packing::default() };
        let form = GenerateForm { prompt: packing.prompt(&prompt), sampling, n, seed };
        self.ask("generate", Message::new(&form, packing.blobs)).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let ScoreRequest { prompt, continuations } = request;
        let mut packing = Packing { known: &self.known, ..Packing::default() };
        let form = ScoreForm { prompt: packing.prompt(&prompt), continuations };
        self.ask("score", Message::new(&form, packing.blobs)).await
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

/// A fingerprint from its text.
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
        let reply = self.questions.ask(method, request).await;
        reply.and_then(|reply| reply.form()).map_err(RemoteError::into_component)
    }
}

/// The objective that a policy is trained by.
pub(crate) struct HostObjective {
    host: HostHandle,
    requirements: Requirements,
}

impl HostObjective {
    pub(crate) fn new(host: HostHandle) -> Result<Self, RemoteError> {
        let reply = host.ask("requirements", &Message::default())?;
        let requirements = reply.form::<RequirementsForm>()?.try_into()?;
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
