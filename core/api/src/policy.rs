//! The model being trained, and the view of it that judges and retrospectors get.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::encoder::VideoEncoder;
use crate::error::ComponentError;
use crate::fingerprint::Fingerprint;
use crate::objective::{PreferenceObjective, View};
use crate::prompt::Prompt;
use crate::response::{Response, Sampling};

/// Asks for `n` answers to one prompt.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The conversation so far.
    pub prompt: Prompt,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// How many answers, drawn independently.
    pub n: usize,
    /// Seed of the draws; answer `i` uses stream `i` of it. Greedy decoding ignores it.
    pub seed: u64,
}

/// What can be told of answers before they are complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The prompt is understood; it takes so many places in the model's context.
    Prompt {
        /// Tokens and visual features.
        tokens: usize,
    },
    /// More of an answer. The pieces of an answer, put together, are how its final text begins.
    Text {
        /// Index of the answer, below `n`.
        answer: usize,
        /// The piece, never empty.
        text: String,
    },
}

/// Where progress is told. A policy spares itself the trouble once the receiver is gone.
pub type ProgressSender = UnboundedSender<Progress>;

/// What to score after a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// A complete answer: tokenised as the assistant's turn, end-of-turn token included.
    Answer(String),
    /// The beginning of an answer: the same without the end-of-turn token.
    #[serde(rename = "opening")]
    Prefix(String),
    /// Exactly these tokens.
    Tokens(Vec<u32>),
}

/// Asks for the log-probs of given continuations of one prompt.
#[derive(Clone, Debug)]
pub struct ScoreRequest {
    /// The conversation so far.
    pub prompt: Prompt,
    /// The continuations, each scored on its own after the prompt.
    pub continuations: Vec<Continuation>,
}

/// Log-probs of one continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogProbs {
    /// The tokens that were scored.
    pub token_ids: Vec<u32>,
    /// Natural-log probability of each, given the prompt and the tokens before it.
    pub logprobs: Vec<f32>,
}

impl TokenLogProbs {
    /// Log-prob of the whole continuation.
    pub fn sum(&self) -> f64 {
        self.logprobs.iter().map(|&value| f64::from(value)).sum()
    }
}

/// A continuation to train on.
#[derive(Clone, Debug)]
pub struct Target {
    /// The answer.
    pub continuation: Continuation,
    /// Its per-token log-probs under the reference, where they are known. An objective that needs a
    /// reference fails on a target without them.
    pub reference: Option<Vec<f32>>,
}

/// A continuation to train on, after a prompt of its own.
#[derive(Clone, Debug)]
pub struct PromptedTarget {
    /// The conversation so far.
    pub prompt: Prompt,
    /// The continuation.
    pub target: Target,
}

/// One training example: a preference pair, or (without `rejected`) a demonstration.
#[derive(Clone, Debug)]
pub struct TrainExample {
    /// The conversation so far.
    pub prompt: Prompt,
    /// The preferred answer, or the demonstration.
    pub chosen: Target,
    /// The answer that lost.
    pub rejected: Option<Target>,
    /// The preferred answer after the prompt with a corrupted video: where the objective asks for
    /// [`View::ChosenCorrupted`].
    pub corrupted: Option<PromptedTarget>,
    /// Another pair's answer: where the objective asks for [`View::Mismatched`].
    pub mismatched: Option<Target>,
}

impl TrainExample {
    /// A pair or a demonstration, and nothing more.
    pub fn new(prompt: Prompt, chosen: Target, rejected: Option<Target>) -> Self {
        Self { prompt, chosen, rejected, corrupted: None, mismatched: None }
    }

    /// What a view shows: an answer, and the prompt that it comes after.
    ///
    /// # Errors
    /// The example does not have it.
    pub fn view(&self, view: View) -> Result<(&Prompt, &Target), ComponentError> {
        let found = match view {
            View::Chosen => Some((&self.prompt, &self.chosen)),
            View::Rejected => self.rejected.as_ref().map(|target| (&self.prompt, target)),
            View::ChosenCorrupted => self.corrupted.as_ref().map(|own| (&own.prompt, &own.target)),
            View::Mismatched => self.mismatched.as_ref().map(|target| (&self.prompt, target)),
        };
        found.ok_or_else(|| {
            ComponentError::failed(format!(
                "the objective needs {} answers; demonstrations have none",
                view.name()
            ))
        })
    }
}

/// One optimiser step.
#[derive(Clone, Debug)]
pub struct TrainStep {
    /// The examples of the step; the loss is the objective's mean over them. A policy that holds
    /// fewer in memory accumulates gradients.
    pub examples: Vec<TrainExample>,
    /// Index of the step within this training, from 0. Step 0 starts from a fresh optimiser state.
    pub step: u64,
    /// Learning rate of this step; the schedule is the loop's.
    pub learning_rate: f64,
    /// Gradients are scaled down to this global L2 norm; `None` leaves them.
    pub max_grad_norm: Option<f64>,
}

/// What one optimiser step did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The objective's loss before the step, mean over the examples.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Answer tokens that the loss was computed from.
    pub tokens: u64,
    /// The objective's own figures, mean over the examples (`reward_margin`, `accuracy`, ...).
    pub metrics: BTreeMap<String, f64>,
}

/// What of a policy is written to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// What a user deploys: weights and everything needed to load them, in a documented layout.
    Model,
    /// Weights and optimiser state: enough to continue training with the same result.
    TrainerState,
}

/// The video LMM being trained.
///
/// # Contract
/// - One request at a time in the signature: concurrent calls are the normal case, and a policy
///   batches those that are waiting. Results do not depend on what else was in the batch.
/// - `generate` with the same weights, prompt, sampling and seed returns the same tokens; on a CPU
///   the same bytes.
/// - `score` of the tokens of a [`Response`] after the same prompt returns its `logprobs` (within
///   1e-4 in float32).
/// - `train_step` computes the log-probs that the objective's
///   [`requirements`](PreferenceObjective::requirements) name, hands them to the objective, and
///   backpropagates the gradient that it returns. `generate` and `score` between two steps see the
///   weights after the former.
/// - `load` of a directory that `save` wrote restores the state bit for bit, and leaves the policy
///   as it was if it fails.
/// - A call whose future is dropped may finish in the background, with no effect but lost time.
///
/// # Errors
/// [`ComponentError::BadInput`] for a prompt that it cannot take (empty, too long for the context):
/// the sample is quarantined. [`ComponentError::Failed`] for everything else.
#[async_trait]
pub trait Policy: Send + Sync {
    /// Identifies the current weights and how they are used (dtype, chat template); changes with
    /// every training step.
    fn fingerprint(&self) -> Fingerprint;

    /// Returns the encoder that is part of the policy's own checkpoint, sharing its weights; `None` if there is none.
    ///
    /// The encoder is frozen, as every [`VideoEncoder`]: its features and fingerprint are those of the checkpoint
    /// that the policy was built from, whatever training and loading do to the policy. A policy whose tower is
    /// trained keeps a copy of the original tower for it; request the encoder before the first `train_step` or
    /// `load`, since a policy may return `None` once the original tower is gone. Blocks while the policy is busy.
    /// Default: `None`.
    fn encoder(&self) -> Option<Arc<dyn VideoEncoder>> {
        None
    }

    /// Samples `request.n` answers.
    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError>;

    /// As [`generate`](Self::generate), and tells of the answers while they are written. A policy that does
    /// not implement this tells nothing.
    async fn generate_streaming(
        &self,
        request: GenerateRequest,
        _progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        self.generate(request).await
    }

    /// Scores each continuation.
    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError>;

    /// Takes one optimiser step.
    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError>;

    /// Writes a snapshot into `dir`, an existing empty directory that the caller publishes whole.
    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError>;

    /// Replaces weights (and optimiser state) by those of a directory that `save` wrote.
    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError>;
}

/// A policy that can generate and score, and cannot train: what judges, retrospectors and
/// evaluators are handed.
/// ```
/// async fn judge(policy: &crate::FrozenPolicy, request: crate::ScoreRequest) {
///     let _ = policy.score(request).await;
/// }
/// ```
/// ```compile_fail,E0599
/// use std::sync::Arc;
/// use crate::{FrozenPolicy, Policy, PreferenceObjective, TrainStep};
///
/// async fn judge(policy: &FrozenPolicy, step: TrainStep, objective: Arc<dyn PreferenceObjective>) {
///     let _ = policy.train_step(step, objective).await;
/// }
/// ```
#[derive(Clone)]
pub struct FrozenPolicy {
    policy: Arc<dyn Policy>,
}

impl FrozenPolicy {
    /// Hides the training half of a policy.
    pub fn new(policy: Arc<dyn Policy>) -> Self {
        Self { policy }
    }

    /// See [`Policy::fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.policy.fingerprint()
    }

    /// See [`Policy::generate`].
    pub async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.policy.generate(request).await
    }

    /// See [`Policy::generate_streaming`].
    pub async fn generate_streaming(
        &self,
        request: GenerateRequest,
        progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        self.policy.generate_streaming(request, progress).await
    }

    /// Samples one answer.
    pub async fn answer(
        &self,
        prompt: Prompt,
        sampling: Sampling,
        seed: u64,
    ) -> Result<Response, ComponentError> {
        let request = GenerateRequest { prompt, sampling, n: 1, seed };
        let mut responses = self.policy.generate(request).await?;
        responses.pop().ok_or_else(|| ComponentError::failed("the policy returned no answer"))
    }

    /// See [`Policy::score`].
    pub async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.policy.score(request).await
    }
}
