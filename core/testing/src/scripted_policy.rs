//! A policy that replies as a test dictates, and records its requests.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, FrozenPolicy, GenerateRequest, Policy,
    PreferenceObjective, Response, ScoreRequest, StepReport, TokenLogProbs, TrainStep,
};

use crate::fixtures::response;

/// Text of the reply to a request.
type Replies = Box<dyn Fn(&GenerateRequest) -> String + Send + Sync>;

/// Log-probs of the tokens of each continuation, given the transcript of the prompt.
type Scores = Box<dyn Fn(&str) -> Vec<Vec<f32>> + Send + Sync>;

/// A policy without weights: replies and scores come from closures, and every request is recorded.
///
/// A method without a closure, and all training and checkpointing, fails with [`ComponentError::Failed`].
/// For a deterministic, trainable policy see [`FakePolicy`](crate::FakePolicy).
///
/// ```
/// # #[tokio::main]
/// # async fn main() {
/// use isr_api::{Prompt, Sampling};
/// use isr_testing::ScriptedPolicy;
///
/// let policy = ScriptedPolicy::saying("A");
/// let reply = policy.frozen().answer(Prompt::text("A or B?"), Sampling::default(), 7).await.unwrap();
/// assert_eq!(reply.text, "A");
/// assert_eq!((policy.prompts(), policy.generated()[0].seed), (vec!["A or B?".to_owned()], 7));
/// # }
/// ```
#[derive(Default)]
pub struct ScriptedPolicy {
    replies: Option<Replies>,
    scores: Option<Scores>,
    generated: Mutex<Vec<GenerateRequest>>,
    scored: Mutex<Vec<ScoreRequest>>,
}

impl ScriptedPolicy {
    /// Replies with the closure's text; does not score.
    pub fn replying(replies: impl Fn(&GenerateRequest) -> String + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { replies: Some(Box::new(replies)), ..Self::default() })
    }

    /// Replies with a constant text; does not score.
    pub fn saying(text: &str) -> Arc<Self> {
        let text = text.to_owned();
        Self::replying(move |_| text.clone())
    }

    /// Scores continuations with the closure's log-probs, one list per continuation, from the transcript of
    /// the prompt; does not reply. Token ids are 0.
    pub fn scoring(scores: impl Fn(&str) -> Vec<Vec<f32>> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { scores: Some(Box::new(scores)), ..Self::default() })
    }

    /// The inference-only handle that judges and retrospectors get.
    pub fn frozen(self: &Arc<Self>) -> FrozenPolicy {
        FrozenPolicy::new(Arc::clone(self) as Arc<dyn Policy>)
    }

    /// All generation requests so far, in order of arrival.
    pub fn generated(&self) -> Vec<GenerateRequest> {
        lock(&self.generated).clone()
    }

    /// All score requests so far, in order of arrival.
    pub fn scored(&self) -> Vec<ScoreRequest> {
        lock(&self.scored).clone()
    }

    /// Transcripts of the prompts of [`generated`](Self::generated).
    pub fn prompts(&self) -> Vec<String> {
        lock(&self.generated).iter().map(|request| request.prompt.transcript()).collect()
    }
}

fn lock<T>(requests: &Mutex<T>) -> MutexGuard<'_, T> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unscripted(method: &str) -> ComponentError {
    ComponentError::failed(format!("the test's script has no {method}"))
}

#[async_trait]
impl Policy for ScriptedPolicy {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("scripted")
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let text = self.replies.as_ref().map(|replies| replies(&request));
        let count = request.n;
        lock(&self.generated).push(request);
        let text = text.ok_or_else(|| unscripted("reply"))?;
        Ok(vec![response(&text); count])
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let rows = self.scores.as_ref().map(|scores| scores(&request.prompt.transcript()));
        lock(&self.scored).push(request);
        let scores = |logprobs: Vec<f32>| TokenLogProbs { token_ids: vec![0; logprobs.len()], logprobs };
        Ok(rows.ok_or_else(|| unscripted("score"))?.into_iter().map(scores).collect())
    }

    async fn train_step(
        &self,
        _: TrainStep,
        _: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        Err(unscripted("training step"))
    }

    async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Err(unscripted("checkpoint"))
    }

    async fn load(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Err(unscripted("checkpoint"))
    }
}

impl fmt::Debug for ScriptedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedPolicy").finish_non_exhaustive()
    }
}
