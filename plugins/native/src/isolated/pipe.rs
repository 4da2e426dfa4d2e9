//! The hosting process's connection to isr: messages out, and the answers to its questions.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use isr_api::messages::{GenerateMessage, PartMessage, ScoreMessage};
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Policy, PreferenceObjective, Response,
    ScoreRequest, StepReport, TokenLogProbs, TrainStep,
};
use isr_protocol::{Answer, FromPlugin, HostRequest};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;

use super::case;

/// The protocol's output, and the questions that await an answer.
pub(super) struct Pipe {
    out: Mutex<File>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    asked: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    pub(super) fn new(out: File) -> Self {
        Self { out: Mutex::new(out), waiting: Mutex::default(), asked: AtomicU64::new(1) }
    }

    /// Writes a message. An error is ignored: isr is gone, and this process ends with its input.
    pub(super) fn write(&self, message: &FromPlugin) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            let _ = lock(&self.out).write_all(&line);
        }
    }

    pub(super) fn answered(&self, id: u64, answer: Answer) {
        if let Some(waiting) = lock(&self.waiting).remove(&id) {
            let _ = waiting.send(answer);
        }
    }

    /// Asks a question of an open call.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        call: u64,
        method: &str,
        params: Value,
    ) -> Result<T, ComponentError> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        self.write(&FromPlugin::Ask(HostRequest { id, call, method: method.to_owned(), params }));
        match receiver.await {
            Ok(Answer::Value(value)) => serde_json::from_value(value).map_err(ComponentError::failed),
            Ok(Answer::Error { code, message }) if code == "bad_input" => {
                Err(ComponentError::bad_input(message))
            }
            Ok(Answer::Error { message, .. }) => Err(ComponentError::failed(message)),
            Err(_) => Err(ComponentError::Cancelled),
        }
    }
}

/// The policy of one call, which isr answers for.
pub(super) struct PipePolicy {
    pub(super) pipe: Arc<Pipe>,
    pub(super) call: u64,
    /// Fingerprint of the weights that sampled the first response: the protocol has no question for it.
    pub(super) fingerprint: Fingerprint,
}

/// A prompt can show the case's video only.
const CASE_VIDEO: PartMessage<bool> = PartMessage::Video(true);

#[async_trait]
impl Policy for PipePolicy {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let message = GenerateMessage::new(&request, |_| CASE_VIDEO);
        self.pipe.ask(self.call, "generate", case::write(message)?).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let message = ScoreMessage::new(&request, |_| CASE_VIDEO);
        self.pipe.ask(self.call, "score", case::write(message)?).await
    }

    async fn train_step(
        &self,
        _: TrainStep,
        _: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        Err(ComponentError::failed("the policy is frozen"))
    }

    async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Err(ComponentError::failed("the policy is frozen"))
    }

    async fn load(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Err(ComponentError::failed("the policy is frozen"))
    }
}
