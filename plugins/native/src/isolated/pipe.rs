//! The hosting process's connection to isr: messages out, and the answers to its questions.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

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
    waiting: Mutex<HashMap<u64, OnAnswer>>,
    asked: AtomicU64,
}

/// Hands an answer to who asked.
type OnAnswer = Box<dyn FnOnce(Answer) + Send>;

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
        let waiting = lock(&self.waiting).remove(&id);
        if let Some(on_answer) = waiting {
            on_answer(answer);
        }
    }

    /// Asks a question of an open call.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        call: u64,
        method: &str,
        params: Value,
    ) -> Result<T, ComponentError> {
        let (sender, receiver) = oneshot::channel();
        self.send(call, method, params, Box::new(move |answer| drop(sender.send(answer))));
        read(receiver.await.ok())
    }

    /// Asks a question of an open call, and blocks this thread until there is an answer.
    pub(super) fn ask_blocking<T: DeserializeOwned>(
        &self,
        call: u64,
        method: &str,
        params: Value,
    ) -> Result<T, ComponentError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.send(call, method, params, Box::new(move |answer| drop(sender.send(answer))));
        read(receiver.recv().ok())
    }

    fn send(&self, call: u64, method: &str, params: Value, on_answer: OnAnswer) {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        lock(&self.waiting).insert(id, on_answer);
        self.write(&FromPlugin::Ask(HostRequest { id, call, method: method.to_owned(), params }));
    }
}

/// Reads an answer; there is none where isr is gone.
fn read<T: DeserializeOwned>(answer: Option<Answer>) -> Result<T, ComponentError> {
    match answer {
        Some(Answer::Value(value)) => serde_json::from_value(value).map_err(ComponentError::failed),
        Some(Answer::Error { code, message }) if code == "bad_input" => {
            Err(ComponentError::bad_input(message))
        }
        Some(Answer::Error { message, .. }) => Err(ComponentError::failed(message)),
        None => Err(ComponentError::Cancelled),
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
