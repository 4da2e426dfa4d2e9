//! Calls of encoders and policies: files of the exchange folder in, a library's answers out.

use std::path::Path;
use std::sync::Arc;

use isr_api::messages::{
    AnswerMessage, CheckpointMessage, EncodeMessage, EncoderProperties, FingerprintMessage, GenerateCall,
    GeneratedMessage, PolicyProperties, ScoreMessage, ScoredMessage, TrainCall, TrainedMessage, VideoFiles,
};
use isr_api::{ComponentError, Fingerprint, GenerateRequest, Policy, Response, ScoreRequest, VideoEncoder};
use isr_protocol::SharedFolder;
use serde_json::Value;

use super::case::{read, write};
use super::objective::PipeObjective;
use super::pipe::Pipe;

/// An encoder, and the folder that it shares with isr.
pub(super) struct HostedEncoder {
    pub(super) encoder: Arc<dyn VideoEncoder>,
    pub(super) folder: SharedFolder,
}

impl HostedEncoder {
    /// Answers a call; `None` for a method of another kind.
    pub(super) async fn call(&self, method: &str, params: Value) -> Option<Result<Value, ComponentError>> {
        match method {
            "properties" => Some(self.properties()),
            "encode" => Some(self.encode(params).await),
            _ => None,
        }
    }

    fn properties(&self) -> Result<Value, ComponentError> {
        let fingerprint = self.encoder.fingerprint().to_string();
        write(EncoderProperties { fingerprint, device_key: self.encoder.device_key() })
    }

    async fn encode(&self, params: Value) -> Result<Value, ComponentError> {
        let message: EncodeMessage = read(params)?;
        let frames = self.folder.call().clip(&message)?;
        write(self.folder.place(&self.encoder.encode(&frames).await?)?)
    }
}

/// A policy, and the folder that it shares with isr.
pub(super) struct HostedPolicy {
    pub(super) policy: Arc<dyn Policy>,
    pub(super) folder: SharedFolder,
}

impl HostedPolicy {
    /// Answers a call, which `pipe` knows as `id`; `None` for a method of another kind.
    pub(super) async fn call(
        &self,
        pipe: &Arc<Pipe>,
        id: u64,
        method: &str,
        params: Value,
    ) -> Option<Result<Value, ComponentError>> {
        Some(match method {
            "properties" => self.properties(),
            "generate" => self.generate(params).await,
            "score" => self.score(params).await,
            "train_step" => self.train_step(pipe, id, params).await,
            "save" => self.save(params).await,
            "load" => self.load(params).await,
            _ => return None,
        })
    }

    fn fingerprint(&self) -> Result<String, ComponentError> {
        Ok(self.policy.try_fingerprint()?.to_string())
    }

    fn properties(&self) -> Result<Value, ComponentError> {
        let (fingerprint, reads_frames) = (self.fingerprint()?, self.policy.reads_frames());
        // The library divides its batches itself.
        let (micro_batch, encoder, whole_steps) = (1, None, true);
        let reasoning = self.policy.reasoning_format();
        write(PolicyProperties { fingerprint, micro_batch, encoder, reasoning, reads_frames, whole_steps })
    }

    async fn generate(&self, params: Value) -> Result<Value, ComponentError> {
        let GenerateCall { request, .. } = read(params)?;
        let (sampling, n, seed) = (request.sampling, request.n, request.seed);
        let prompt = self.folder.call().prompt(request.prompt)?;
        let responses = self.policy.generate(GenerateRequest { prompt, sampling, n, seed }).await?;
        let policy = match responses.first() {
            Some(first) => same_weights(&first.policy, &responses)?,
            None => self.fingerprint()?,
        };
        let answer = |Response { text, token_ids, logprobs, finish_reason, reasoning, .. }| AnswerMessage {
            text,
            token_ids,
            logprobs,
            finish_reason,
            reasoning,
        };
        let responses = responses.into_iter().map(answer).collect();
        write(GeneratedMessage { policy, prompt_tokens: None, responses })
    }

    async fn score(&self, params: Value) -> Result<Value, ComponentError> {
        let ScoreMessage::<VideoFiles> { prompt, continuations } = read(params)?;
        let prompt = self.folder.call().prompt(prompt)?;
        let scores = self.policy.score(ScoreRequest { prompt, continuations }).await?;
        write(ScoredMessage { policy: self.fingerprint()?, scores })
    }

    async fn train_step(&self, pipe: &Arc<Pipe>, id: u64, params: Value) -> Result<Value, ComponentError> {
        let message: TrainCall<VideoFiles> = read(params)?;
        let requirements = message.requirements().map_err(ComponentError::failed)?;
        let mut files = self.folder.call();
        let step = message.step.into_step(|turns| files.prompt(turns))?;
        let objective = PipeObjective { pipe: Arc::clone(pipe), call: id, requirements };
        let report = self.policy.train_step(step, Arc::new(objective)).await?;
        write(TrainedMessage::new(report, self.fingerprint()?))
    }

    async fn save(&self, params: Value) -> Result<Value, ComponentError> {
        let message: CheckpointMessage = read(params)?;
        let kind = message.kind().map_err(ComponentError::failed)?;
        self.policy.save(Path::new(&message.dir), kind).await?;
        Ok(Value::Null)
    }

    async fn load(&self, params: Value) -> Result<Value, ComponentError> {
        let message: CheckpointMessage = read(params)?;
        let kind = message.kind().map_err(ComponentError::failed)?;
        self.policy.load(Path::new(&message.dir), kind).await?;
        write(FingerprintMessage { fingerprint: self.fingerprint()? })
    }
}

/// The fingerprint that all responses have.
fn same_weights(first: &Fingerprint, responses: &[Response]) -> Result<String, ComponentError> {
    match responses.iter().find(|response| response.policy != *first) {
        Some(other) => {
            let text = format!("generate returned answers of the weights {first} and {}", other.policy);
            Err(ComponentError::failed(text))
        }
        None => Ok(first.to_string()),
    }
}
