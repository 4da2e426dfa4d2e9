//! The [`Policy`] trait, its requests, and [`FrozenPolicy`], the inference-only handle.

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
use crate::reasoning::ReasoningFormat;
use crate::response::{Response, Sampling};

/// A request for `n` responses to one prompt.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The conversation to continue.
    pub prompt: Prompt,
    /// Temperature, truncation, length limit and stop strings.
    pub sampling: Sampling,
    /// Number of independent responses.
    pub n: usize,
    /// Seed of the draws; response `i` uses stream `i` of it. Ignored by greedy decoding.
    pub seed: u64,
}

/// Progress of a generation, sent before the responses are complete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The prompt was tokenised.
    Prompt {
        /// Length of the prompt in the model's context: text tokens and visual tokens.
        tokens: usize,
    },
    /// The next piece of a response's reasoning. The concatenated pieces are a prefix of its final text.
    Reasoning {
        /// Index of the response, below `n`.
        answer: usize,
        /// The piece; never empty.
        text: String,
    },
    /// The next piece of a response's answer. The concatenated pieces are a prefix of its final text.
    Text {
        /// Index of the response, below `n`.
        answer: usize,
        /// The piece; never empty.
        text: String,
    },
}

/// Channel for [`Progress`]. If the receiver is dropped, the policy may stop sending.
pub type ProgressSender = UnboundedSender<Progress>;

/// A completion to score or to train on, given a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// A complete assistant turn, as text: scored with its end-of-turn token, and with an empty reasoning where the chat
    /// template writes one before an answer.
    Answer(String),
    /// The beginning of an answer, as text: scored without an end-of-turn token, and behind an empty reasoning, which is no
    /// part of the score, where the chat template writes one before an answer.
    #[serde(rename = "opening")]
    Prefix(String),
    /// Token ids, scored as they are.
    Tokens(Vec<u32>),
}

/// A request for the log-probs of continuations of one prompt.
#[derive(Clone, Debug)]
pub struct ScoreRequest {
    /// The conversation that all continuations share.
    pub prompt: Prompt,
    /// Continuations, each scored independently.
    pub continuations: Vec<Continuation>,
}

/// Per-token log-probs of one continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogProbs {
    /// Scored tokens.
    pub token_ids: Vec<u32>,
    /// Natural-log probability of each token given the prompt and the preceding tokens, at temperature 1. Same
    /// length as `token_ids`.
    pub logprobs: Vec<f32>,
}

/// Log-prob above 0 that is taken for rounding.
const ROUNDING: f32 = 1e-4;

/// Checks that there is one log-prob a token, a finite number of at most 0 but for rounding.
pub(crate) fn check_log_probs(token_ids: &[u32], logprobs: &[f32]) -> Result<(), String> {
    let (tokens, numbers) = (token_ids.len(), logprobs.len());
    if tokens != numbers {
        return Err(format!("has {numbers} log-probs for {tokens} tokens"));
    }
    match logprobs.iter().find(|number| !number.is_finite() || **number > ROUNDING) {
        Some(number) => Err(format!("has the log-prob {number}")),
        None => Ok(()),
    }
}

impl TokenLogProbs {
    /// Checks the score of a continuation: one log-prob a token, finite and at most 0 but for rounding, and the tokens
    /// that were given, where they were.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence: `has the log-prob NaN`.
    pub fn check(&self, of: &Continuation) -> Result<(), String> {
        check_log_probs(&self.token_ids, &self.logprobs)?;
        match of {
            Continuation::Tokens(given) if *given != self.token_ids => {
                let place = given.iter().zip(&self.token_ids).position(|(given, scored)| given != scored);
                let place = place.unwrap_or(given.len().min(self.token_ids.len()));
                let (given, scored) = (given.len(), self.token_ids.len());
                Err(format!("has {scored} tokens that differ from the {given} given, first at {place}"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the log-prob of the whole continuation: the sum over tokens, in f64.
    pub fn sum(&self) -> f64 {
        self.logprobs.iter().map(|&value| f64::from(value)).sum()
    }
}

/// A training target: a continuation with its reference log-probs.
#[derive(Clone, Debug)]
pub struct Target {
    /// The completion.
    pub continuation: Continuation,
    /// Per-token log-probs under the reference policy; `None` where unknown. An objective that requires the
    /// reference fails on a target without them.
    pub reference: Option<Vec<f32>>,
}

/// A training target with a prompt of its own.
#[derive(Clone, Debug)]
pub struct PromptedTarget {
    /// The conversation before the completion.
    pub prompt: Prompt,
    /// The completion.
    pub target: Target,
}

/// One training example: a preference pair, or without `rejected` a demonstration.
#[derive(Clone, Debug)]
pub struct TrainExample {
    /// The conversation before `chosen` and `rejected`.
    pub prompt: Prompt,
    /// The chosen response, or the demonstration.
    pub chosen: Target,
    /// The rejected response; `None` in supervised fine-tuning.
    pub rejected: Option<Target>,
    /// The chosen response after the prompt with a corrupted video. Set if the objective requires
    /// [`View::ChosenCorrupted`].
    pub corrupted: Option<PromptedTarget>,
    /// A response of another pair. Set if the objective requires [`View::Mismatched`].
    pub mismatched: Option<Target>,
}

impl TrainExample {
    /// Creates a preference pair, or without `rejected` a demonstration, without additional views.
    pub fn new(prompt: Prompt, chosen: Target, rejected: Option<Target>) -> Self {
        Self { prompt, chosen, rejected, corrupted: None, mismatched: None }
    }

    /// Returns prompt and completion of a view.
    ///
    /// # Errors
    /// [`ComponentError::Failed`] if the example lacks the view.
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

/// A request for one optimiser step.
#[derive(Clone, Debug)]
pub struct TrainStep {
    /// The batch. The loss is the objective's mean over it; a policy whose memory holds fewer examples
    /// accumulates gradients. In a policy that [trains in parallel](Policy::trains_in_parallel), the part of the batch
    /// that is this process's, which may be empty; the batch is the parts by rank.
    pub examples: Vec<TrainExample>,
    /// Index within this training, from 0. Step 0 resets the optimiser state.
    pub step: u64,
    /// Learning rate of this step. The caller applies the learning-rate schedule.
    pub learning_rate: f64,
    /// Gradient clipping threshold, a global L2 norm; `None` disables clipping.
    pub max_grad_norm: Option<f64>,
    /// Seed of the step's random draws, such as dropout. The loop derives it from run seed, iteration and step.
    pub seed: u64,
}

/// The result of one optimiser step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Loss before the step, mean over the batch.
    pub loss: f64,
    /// Global L2 norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Completion tokens in the loss.
    pub tokens: u64,
    /// Metrics of the objective, means over the batch: `reward_margin`, `accuracy`, ... At step 0, where the policy is
    /// its own reference, a policy may add how far its log-probs of the batch are from the reference's: the mean and the
    /// largest absolute difference of a token, `sampling_score_drift` and `sampling_score_drift_max`, and the mean
    /// absolute difference of an answer, `sampling_score_drift_sum`.
    pub metrics: BTreeMap<String, f64>,
}

/// Which parts of the policy a checkpoint contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointKind {
    /// Weights with everything needed to load them for inference, in a documented layout.
    Model,
    /// Weights and optimiser state, so that resumed training gives the same result as uninterrupted training.
    TrainerState,
}

/// The video large multimodal model that is aligned.
///
/// # Contract
/// - Reasoning: what a model writes before its answer is part of a response's tokens and log-probs, and no part of its text
///   ([`Response::reasoning`]).
/// - Batching: each method takes one request, and is called concurrently. The policy batches waiting requests.
///   Results do not depend on what else is in the batch.
/// - Determinism: `generate` with the same weights, prompt, sampling and seed returns the same tokens; on a CPU
///   the same bytes.
/// - Consistency: `score` of the tokens of a [`Response`] after the same prompt returns its `logprobs`, within
///   1e-4 in float32.
/// - Training: `train_step` computes the log-probs that the objective
///   [requires](PreferenceObjective::requirements), calls the objective, and backpropagates the returned
///   gradient. `generate` and `score` calls after a step use the updated weights.
/// - Checkpoints: `load` of a directory that `save` wrote restores the state bit for bit. A failed `load` leaves
///   the policy unchanged.
/// - Cancellation: a call whose future is dropped may finish in the background, without further effect.
///
/// # Errors
/// [`ComponentError::BadInput`] for a prompt that the model does not support (empty, longer than the context):
/// the sample is quarantined. [`ComponentError::Failed`] for everything else.
#[async_trait]
pub trait Policy: Send + Sync {
    /// Returns a digest of the current weights and of the settings that affect their use (dtype, chat template).
    /// Changes with every training step.
    fn fingerprint(&self) -> Fingerprint;

    /// Returns the [`fingerprint`](Self::fingerprint), or the reason for which it cannot be told: a device or a process
    /// that is gone. The loop asks here before it records a fingerprint or compares it. Default: that of
    /// [`fingerprint`](Self::fingerprint), for policies that can always tell it.
    fn try_fingerprint(&self) -> Result<Fingerprint, ComponentError> {
        Ok(self.fingerprint())
    }

    /// Returns the seconds for which the policy's device has had work since the policy was built: model computations, its
    /// encoder's among them, without the reading and writing of files. Runs record it by stage, to show when a device is
    /// idle; it affects no result. Default: `None`, for policies that do not measure it.
    fn busy_seconds(&self) -> Option<f64> {
        None
    }

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

    /// Returns whether the policy reads the frames of videos itself, so that it needs no encoder: without `[encoder]` in the
    /// config, videos come without features ([`VideoInput::features`](crate::VideoInput::features)). Default: false; such a
    /// policy needs an encoder of the config or its own.
    fn reads_frames(&self) -> bool {
        false
    }

    /// Returns the form in which the policy writes reasoning before answers, which its responses are
    /// [separated](ReasoningFormat::separate) by; `None` if it writes none. A [`Sampler`](crate::Sampler) asks for it.
    /// Default: `None`.
    fn reasoning_format(&self) -> Option<ReasoningFormat> {
        None
    }

    /// Returns whether the policies of a [process group](crate::ProcessGroup) take each training step together: each is
    /// given its part of the batch, all end with the same weights, and all return the report of the whole batch. `save` is
    /// then called in each process with one directory. Default: false; the first process then trains alone, and the
    /// others load its checkpoint.
    fn trains_in_parallel(&self) -> bool {
        false
    }

    /// Samples `request.n` responses.
    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError>;

    /// Samples responses as [`generate`](Self::generate) does, and sends progress meanwhile. The default
    /// implementation sends none.
    async fn generate_streaming(
        &self,
        request: GenerateRequest,
        _progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        self.generate(request).await
    }

    /// Computes the log-probs of each continuation, in the order of the request.
    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError>;

    /// Takes one optimiser step on the loss of `objective`.
    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError>;

    /// Writes a checkpoint into `dir`, an existing empty directory. The caller publishes it atomically.
    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError>;

    /// Loads a checkpoint of the same kind that `save` wrote.
    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError>;
}

/// An inference-only handle on a policy, for judges and retrospectors. It can generate and score; training
/// through it does not compile.
/// ```
/// async fn judge(policy: &isr_api::FrozenPolicy, request: isr_api::ScoreRequest) {
///     let _ = policy.score(request).await;
/// }
/// ```
/// ```compile_fail,E0599
/// use std::sync::Arc;
/// use isr_api::{FrozenPolicy, Policy, PreferenceObjective, TrainStep};
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
    /// Wraps a policy.
    pub fn new(policy: Arc<dyn Policy>) -> Self {
        Self { policy }
    }

    /// Calls [`Policy::fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.policy.fingerprint()
    }

    /// Calls [`Policy::try_fingerprint`].
    pub fn try_fingerprint(&self) -> Result<Fingerprint, ComponentError> {
        self.policy.try_fingerprint()
    }

    /// Calls [`Policy::generate`].
    pub async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.policy.generate(request).await
    }

    /// Calls [`Policy::generate_streaming`].
    pub async fn generate_streaming(
        &self,
        request: GenerateRequest,
        progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        self.policy.generate_streaming(request, progress).await
    }

    /// Samples one response.
    ///
    /// # Errors
    /// Those of [`Policy::generate`]; [`ComponentError::Failed`] if it returns no response.
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

    /// Calls [`Policy::score`].
    pub async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.policy.score(request).await
    }
}
