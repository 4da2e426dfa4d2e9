//! Inference and training engine: owns the model on a thread of its own and serves requests from any number of
//! tasks.
//!
//! Generation uses continuous batching: a prompt is prefilled when a row of the batch is free, its answers join
//! the running batch, and leave it when they end.
//!
//! Results do not depend on what else is in the batch. A prompt is prefilled alone, the answers of a request
//! attend in a call of their own, and each decoding step runs its matrix products on a fixed number of rows,
//! padded if fewer are active: the summation order of a row is then the same whatever the other rows hold.
//! `tests/batch_invariance.rs` checks this to the bit on the CPU. On a GPU, all sequences of the batch are decoded by
//! one step instead ([`fused`]).

mod decode;
mod detokenizer;
mod device_sampler;
mod fused;
mod group;
mod memory;
mod prefill;
mod prefix_cache;
mod progress;
mod reply;
pub(crate) mod sampler;
mod score;
mod snapshot;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use fused::FusedBatch;
use group::{DecodeGroup, QueuedRequest};
use isr_api::{
    CheckpointKind, Fingerprint, GenerateRequest, PreferenceObjective, ProgressSender, Prompt,
    ReasoningFormat, Response, ScoreRequest, StepReport, TokenLogProbs, TrainStep,
};
use tokio::sync::oneshot;

use crate::chat::{Chat, Rendered};
use crate::checkpoint::Checkpoint;
use crate::cpu_lock::{self, Requester};
use crate::device::Precision;
use crate::encoder::VisionTowerEncoder;
use crate::error::{Result, TorchError};
use crate::model::VideoLmm;
use crate::train::Trainer;
pub(crate) use prefix_cache::PrefixCache;
use reply::{Reply, respond};
pub use score::Logits;

/// Request to the engine, with the channel of its reply.
pub(crate) enum Command {
    /// Samples answers; progress is sent if there is a sender.
    Generate(GenerateRequest, Option<ProgressSender>, Reply<Vec<Response>>),
    /// Scores continuations.
    Score(ScoreRequest, Reply<Vec<TokenLogProbs>>),
    /// Computes logits at every position of a prompt.
    Logits(Prompt, Reply<Logits>),
    /// Takes one optimiser step.
    Train(TrainStep, Arc<dyn PreferenceObjective>, Reply<StepReport>),
    /// Writes a snapshot into a folder.
    Save(PathBuf, CheckpointKind, Reply<()>),
    /// Loads a snapshot from a folder.
    Load(PathBuf, CheckpointKind, Reply<()>),
    /// Computes the policy's fingerprint.
    Fingerprint(Sender<Result<Fingerprint>>),
    /// Returns the encoder that shares the policy's tower.
    Encoder(Sender<Result<Option<Arc<VisionTowerEncoder>>>>),
}

impl Command {
    fn requester(&self) -> Requester {
        match self {
            Self::Save(..) | Self::Load(..) | Self::Fingerprint(_) => Requester::Files,
            _ => Requester::Engine,
        }
    }
}

/// Handle of a running engine. Dropping it stops the engine and blocks until the operation under way has
/// finished: libtorch must not be running when the process exits.
pub(crate) struct EngineHandle {
    /// `None` during drop only.
    commands: Option<Sender<Command>>,
    /// How the model writes reasoning.
    reasoning: Option<ReasoningFormat>,
    thread: Option<JoinHandle<()>>,
}

impl EngineHandle {
    /// Sends a command and awaits its reply.
    pub(crate) async fn call<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(|_| stopped())?
    }

    /// Returns the policy's fingerprint. Blocks until the commands before it are done.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint> {
        let (reply, answer) = channel();
        self.send(Command::Fingerprint(reply))?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Returns the encoder that shares the policy's tower; see [`Engine::encoder`]. Blocks as
    /// [`fingerprint`](Self::fingerprint) does.
    pub(crate) fn encoder(&self) -> Result<Option<Arc<VisionTowerEncoder>>> {
        let (reply, answer) = channel();
        self.send(Command::Encoder(reply))?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Returns how the model writes reasoning.
    pub(crate) fn reasoning(&self) -> Option<&ReasoningFormat> {
        self.reasoning.as_ref()
    }

    fn send(&self, command: Command) -> Result<()> {
        let sent = self.commands.as_ref().map(|commands| commands.send(command));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(stopped()) }
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic, and pending callers have received an error.
            let _ = thread.join();
        }
    }
}

fn stopped() -> TorchError {
    TorchError::Engine("its thread has ended; the log says why".to_owned())
}

/// Whereabouts of the tower of the checkpoint that the policy was built from.
enum OriginalTower {
    /// The model's own, which no encoder shares yet.
    Own,
    /// The model's own, shared with an encoder.
    Shared(Arc<VisionTowerEncoder>),
    /// A copy that belongs to an encoder; the model's own has changed.
    Copied(Arc<VisionTowerEncoder>),
    /// The model's own has changed, and no encoder was requested before.
    Lost,
}

/// State owned by the engine's thread.
pub(crate) struct Engine {
    pub(crate) model: VideoLmm,
    pub(crate) chat: Chat,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) trainer: Trainer,
    /// Rows of a decoding step; the batch size.
    pub(crate) batch: usize,
    /// Maximum size of a saved weight file, in bytes.
    pub(crate) shard_bytes: u64,
    /// Digest of everything besides weights that determines answers: chat template, tokenizer, dtype.
    pub(crate) identity: Fingerprint,
    fingerprint: Option<Fingerprint>,
    /// Dtype of the weights.
    precision: Precision,
    tower: OriginalTower,
    prefixes: PrefixCache,
    waiting: VecDeque<QueuedRequest>,
    groups: VecDeque<DecodeGroup>,
    /// Groups that are decoded together; of a model with a fused step.
    fused: FusedBatch,
}

impl Engine {
    /// Creates an idle engine.
    pub(crate) fn new(
        model: VideoLmm,
        chat: Chat,
        checkpoint: Checkpoint,
        trainer: Trainer,
        batch: usize,
        shard_bytes: u64,
        identity: Fingerprint,
        precision: Precision,
        prefixes: PrefixCache,
    ) -> Self {
        let (waiting, groups) = (VecDeque::new(), VecDeque::new());
        Self {
            model,
            chat,
            checkpoint,
            trainer,
            batch,
            shard_bytes,
            identity,
            fingerprint: None,
            precision,
            tower: OriginalTower::Own,
            prefixes,
            waiting,
            groups,
            fused: FusedBatch::default(),
        }
    }

    /// Returns whether no request is waiting or being decoded.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.groups.is_empty() && self.fused.is_empty()
    }

    /// Builds an engine on a new thread, which serves commands until the handle is dropped.
    ///
    /// # Errors
    /// The error of `build`.
    pub(crate) fn spawn(build: impl FnOnce() -> Result<Self> + Send + 'static) -> Result<EngineHandle> {
        let (commands, inbox) = channel();
        let (built, outcome) = channel();
        let serve = move || match build() {
            Ok(mut engine) => {
                let _ = built.send(Ok(engine.chat.reasoning().cloned()));
                engine.serve(&inbox);
            }
            Err(error) => {
                let _ = built.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name("isr-engine".to_owned()).spawn(serve);
        let thread = thread.map_err(|error| TorchError::Engine(error.to_string()))?;
        let mut handle = EngineHandle { commands: Some(commands), reasoning: None, thread: Some(thread) };
        handle.reasoning = outcome.recv().map_err(|_| stopped())??;
        Ok(handle)
    }

    /// Executes commands, and decodes while there are none. Scoring and decoding alternate, so that neither waits for
    /// the other to end.
    fn serve(&mut self, inbox: &Receiver<Command>) {
        loop {
            let command = match self.is_idle() {
                true => inbox.recv().map_err(|_| TryRecvError::Disconnected),
                false => inbox.try_recv(),
            };
            match command {
                Ok(command) => {
                    let _turn = cpu_lock::acquire(self.model.device, command.requester());
                    let scores = matches!(command, Command::Score(..) | Command::Logits(..));
                    self.execute(command);
                    if scores {
                        self.advance();
                    }
                }
                // The handle is gone.
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    let _turn = cpu_lock::acquire(self.model.device, Requester::Engine);
                    self.advance();
                }
            }
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Generate(request, progress, reply) => self.enqueue(request, progress, reply),
            Command::Score(request, reply) => {
                let score = |engine: &mut Self| tch::no_grad(|| engine.score(&request));
                respond(reply, self.within_memory(memory::READING, score));
            }
            Command::Logits(prompt, reply) => {
                let logits = |engine: &mut Self| tch::no_grad(|| engine.logits(&prompt));
                respond(reply, self.within_memory(memory::READING, logits));
            }
            Command::Fingerprint(reply) => {
                let _ = reply.send(self.fingerprint());
            }
            Command::Encoder(reply) => {
                let _ = reply.send(self.encoder());
            }
            Command::Train(step, objective, reply) => {
                self.finish_generating();
                self.invalidate();
                respond(reply, self.train(&step, objective.as_ref()));
            }
            Command::Save(dir, what, reply) => {
                self.finish_generating();
                respond(reply, self.save(&dir, what));
            }
            Command::Load(dir, what, reply) => {
                self.finish_generating();
                self.invalidate();
                respond(reply, self.load(&dir, what));
            }
        }
    }

    /// Completes all requests: weights change only between answers.
    fn finish_generating(&mut self) {
        while !self.is_idle() {
            self.advance();
        }
    }

    /// Invalidates everything computed from weights that are about to change.
    fn invalidate(&mut self) {
        self.fingerprint = None;
        self.prefixes.clear();
        if let Some(step) = &mut self.model.fused {
            step.invalidate();
        }
    }

    /// Takes one optimiser step; the encoder keeps the original tower.
    fn train(&mut self, step: &TrainStep, objective: &dyn PreferenceObjective) -> Result<StepReport> {
        if self.trainer.trains_tower() {
            self.keep_original_tower()?;
        }
        self.trainer.step(&mut self.model, &self.chat, step, objective)
    }

    /// Returns the encoder of the checkpoint that the policy was built from. It shares the memory of the model's
    /// tower until training or loading is about to change that tower; it then keeps a copy of the original weights.
    /// An adapter on the tower never changes the weights below it. `None` if the tower changed before the first
    /// call.
    fn encoder(&mut self) -> Result<Option<Arc<VisionTowerEncoder>>> {
        match &self.tower {
            OriginalTower::Shared(encoder) | OriginalTower::Copied(encoder) => {
                Ok(Some(Arc::clone(encoder)))
            }
            OriginalTower::Lost => Ok(None),
            OriginalTower::Own => {
                let encoder = Arc::new(VisionTowerEncoder::shared(&self.model, self.precision)?);
                self.tower = OriginalTower::Shared(Arc::clone(&encoder));
                Ok(Some(encoder))
            }
        }
    }

    /// Gives the encoder a copy of the tower, which is about to change.
    fn keep_original_tower(&mut self) -> Result<()> {
        if let OriginalTower::Shared(encoder) = &self.tower {
            encoder.unshare(&self.model)?;
            self.tower = OriginalTower::Copied(Arc::clone(encoder));
        } else if let OriginalTower::Own = self.tower {
            self.tower = OriginalTower::Lost;
        }
        Ok(())
    }

    /// Returns the digest of weights and [`identity`](Self::identity); cached until the weights change.
    pub(crate) fn fingerprint(&mut self) -> Result<Fingerprint> {
        if let Some(known) = &self.fingerprint {
            return Ok(known.clone());
        }
        let weights = self.model.weights.fingerprint()?;
        let fingerprint = self.fingerprint_of(&weights);
        self.fingerprint = Some(fingerprint.clone());
        Ok(fingerprint)
    }

    fn fingerprint_of(&self, weights: &Fingerprint) -> Fingerprint {
        Fingerprint::of(format!("{} {}", self.identity, weights))
    }

    /// Renders a prompt.
    ///
    /// # Errors
    /// A prompt that fills the context.
    fn render(&self, prompt: &Prompt) -> Result<Rendered> {
        let rendered = self.chat.render(prompt, |frames| self.model.config.layout(frames))?;
        let (length, limit) = (rendered.extent(0), self.model.config.text.max_position_embeddings);
        if length >= limit {
            let text = format!("the prompt has {length} tokens, but the model's context holds {limit}");
            return Err(TorchError::Prompt(text));
        }
        Ok(rendered)
    }
}
