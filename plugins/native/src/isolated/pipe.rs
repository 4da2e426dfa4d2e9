//! The hosting process's way to the program: messages out, and answers to what is asked.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Part, Policy, PreferenceObjective,
    Prompt, Response, ScoreRequest, StepReport, TokenLogProbs, TrainStep,
};
use isr_protocol::{Answer, Ask, FromPlugin};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// The way out, and who waits for an answer.
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

    /// Writes a line. Where the program is gone, there is nobody to tell.
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

    /// Asks in a call.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        call: u64,
        method: &str,
        params: Value,
    ) -> Result<T, ComponentError> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        self.write(&FromPlugin::Ask(Ask { id, call, method: method.to_owned(), params }));
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

/// The policy of one call.
pub(super) struct PipePolicy {
    pub(super) pipe: Arc<Pipe>,
    pub(super) call: u64,
    /// The protocol does not ask for it: that of the weights that answered.
    pub(super) fingerprint: Fingerprint,
}

/// The protocol's form: the video is the case's.
fn conversation(prompt: &Prompt) -> Value {
    let part = |part: &Part| match part {
        Part::Text(text) => json!({ "text": text }),
        Part::Video(_) => json!({ "video": true }),
    };
    let message = |message: &isr_api::Message| {
        let parts: Vec<Value> = message.parts.iter().map(part).collect();
        json!({ "role": message.role, "parts": parts })
    };
    prompt.messages.iter().map(message).collect()
}

#[async_trait]
impl Policy for PipePolicy {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let GenerateRequest { prompt, sampling, n, seed } = request;
        let params = json!({ "prompt": conversation(&prompt), "sampling": sampling, "n": n, "seed": seed });
        self.pipe.ask(self.call, "generate", params).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let ScoreRequest { prompt, continuations } = request;
        let params = json!({ "prompt": conversation(&prompt), "continuations": continuations });
        self.pipe.ask(self.call, "score", params).await
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
