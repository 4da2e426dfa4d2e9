//! Policies: requests, training batches and checkpoints' folders cross as plain data.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Policy, PreferenceObjective, Response,
    ScoreRequest, StepReport, TokenLogProbs, TrainStep,
};
use isr_plugin::wire::{self, CheckpointMessage, Message, RemoteError, TextMessage};

use crate::answers::Answers;
use crate::runner::Runner;

/// A policy of a library.
pub(crate) struct NativePolicy(pub(crate) Runner);

#[async_trait]
impl Policy for NativePolicy {
    fn fingerprint(&self) -> Fingerprint {
        self.try_fingerprint().unwrap_or_else(|error| {
            tracing::error!("{error}");
            Fingerprint::of(error.to_string())
        })
    }

    fn try_fingerprint(&self) -> Result<Fingerprint, ComponentError> {
        let reply = self.0.call_now("fingerprint", &Message::default())?;
        let reply = self.0.read::<TextMessage>("fingerprint", &reply)?;
        Ok(wire::parse_fingerprint(&reply.text))
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let reply = self.call("generate", wire::generate_message(&request, &[])).await?;
        self.0.read("generate", &reply)
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let reply = self.call("score", wire::score_message(&request, &[])).await?;
        self.0.read("score", &reply)
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        let answers = Answers::objective(self.0.name(), objective);
        let reply = self.0.call("train_step", wire::train_message(step), answers).await?;
        self.0.read("train_step", &reply)
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.call("save", checkpoint(dir, what)).await.map(drop)
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.call("load", checkpoint(dir, what)).await.map(drop)
    }
}

impl NativePolicy {
    async fn call(
        &self,
        method: &'static str,
        request: Result<Message, RemoteError>,
    ) -> Result<Message, ComponentError> {
        self.0.call(method, request, Answers::nobody(self.0.name())).await
    }
}

fn checkpoint(dir: &Path, kind: CheckpointKind) -> Result<Message, RemoteError> {
    Message::new(&CheckpointMessage::new(dir, kind), Vec::new())
}
