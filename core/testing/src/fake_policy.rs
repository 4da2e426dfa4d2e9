//! A deterministic, trainable policy of two numbers.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Continuation, Fingerprint, FinishReason, FrozenPolicy, GenerateRequest,
    Granularity, ObjectiveBatch, Policy, PreferenceObjective, Progress, ProgressSender, Prompt,
    ReasoningFormat, Response, ScoreRequest, StepReport, Streams, TokenLogProbs, TrainExample, TrainStep,
    ViewLogProbs,
};
use serde::{Deserialize, Serialize};

/// Text of the reply to a request, given a seed.
type Replies = Box<dyn Fn(&GenerateRequest, u64) -> String + Send + Sync>;

/// Deterministic, trainable policy with one weight and its momentum.
///
/// A token is a character; its log-prob is `ln sigmoid(weight * s + h)`, with `s` of -1 or 1 and `h` in [-2, 2)
/// hashed from prompt, position and token. Training is gradient descent with momentum 0.9 on the weight, so
/// log-probs change, and a [`CheckpointKind::TrainerState`] without the momentum is detectable. Texts come from
/// a closure and do not depend on the weight.
pub struct FakePolicy {
    replies: Replies,
    reasoning: Option<ReasoningFormat>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct State {
    weight: f64,
    momentum: f64,
}

impl Default for FakePolicy {
    /// Replies with `A` or `B`, a number from 1 to 5, or three words, by keywords of the prompt.
    fn default() -> Self {
        Self::replying(|request, drawn| {
            let text = request.prompt.transcript();
            let hash = Streams::new(drawn).seed(0, &text, "reply");
            let words = ["the", "bar", "is", "red", "blue", "moves", "left", "right"];
            if text.contains("A or B") {
                if hash % 2 == 0 { "A" } else { "B" }.to_owned()
            } else if text.contains("1 to 5") || text.contains("from 1") {
                (1 + hash % 5).to_string()
            } else {
                [0, 8, 16].map(|shift| words[(hash >> shift) as usize % 8]).join(" ")
            }
        })
    }
}

impl FakePolicy {
    /// Replies with the closure's text for a request and a seed; the seed is 0 for greedy decoding.
    pub fn replying(replies: impl Fn(&GenerateRequest, u64) -> String + Send + Sync + 'static) -> Self {
        Self { replies: Box::new(replies), reasoning: None, state: Mutex::default() }
    }

    /// Separates what it replies by a format of reasoning.
    #[must_use]
    pub fn reasoning(self, format: ReasoningFormat) -> Self {
        Self { reasoning: Some(format), ..self }
    }

    /// The inference-only handle that judges and retrospectors get.
    pub fn frozen(self: &Arc<Self>) -> FrozenPolicy {
        FrozenPolicy::new(Arc::clone(self) as Arc<dyn Policy>)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &GenerateRequest, index: usize) -> Response {
        let greedy = request.sampling.temperature == 0.0;
        let drawn = if greedy { 0 } else { Streams::new(request.seed).seed(index as u32, "answer", "") };
        let mut text = (self.replies)(request, drawn);
        let longest = text.char_indices().nth(request.sampling.max_new_tokens).map(|(end, _)| end);
        if let Some(end) = longest {
            text.truncate(end);
        }
        let token_ids = letters(&text);
        let logprobs = score(self.state().weight, &request.prompt, &token_ids).0;
        let finish_reason = if longest.is_some() { FinishReason::Length } else { FinishReason::Stop };
        let policy = self.fingerprint();
        let whole = text.clone();
        let response = Response { text, token_ids, logprobs, finish_reason, policy, reasoning: None };
        match &self.reasoning {
            Some(format) => separated(format, response, &whole),
            None => response,
        }
    }
}

/// Separates a response of a token a character.
fn separated(format: &ReasoningFormat, response: Response, whole: &str) -> Response {
    let first = |count: usize| Ok::<String, Infallible>(whole.chars().take(count).collect());
    match format.separate(response, first) {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn letters(text: &str) -> Vec<u32> {
    text.chars().map(u32::from).collect()
}

fn tokens(continuation: &Continuation) -> Vec<u32> {
    match continuation {
        Continuation::Tokens(tokens) => tokens.clone(),
        Continuation::Answer(text) | Continuation::Prefix(text) => letters(text),
    }
}

/// Log-prob of each token, and its derivative by the weight.
fn score(weight: f64, prompt: &Prompt, tokens: &[u32]) -> (Vec<f32>, Vec<f64>) {
    let text = prompt.transcript();
    let root = Streams::new(Streams::new(1).seed(0, &text, "prompt"));
    let of = |(place, &token): (usize, &u32)| {
        let hash = root.seed(place as u32, "token", &token.to_string());
        let sign = if hash % 2 == 0 { 1.0 } else { -1.0 };
        let logit = weight * sign + (hash >> 11) as f64 / (1_u64 << 53) as f64 * 4.0 - 2.0;
        let probability = 1.0 / (1.0 + (-logit).exp());
        (probability.ln() as f32, sign * (1.0 - probability))
    };
    tokens.iter().enumerate().map(of).unzip()
}

#[async_trait]
impl Policy for FakePolicy {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_json(&*self.state())
    }

    fn reasoning_format(&self) -> Option<ReasoningFormat> {
        self.reasoning.clone()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        require_prompt(&request.prompt)?;
        Ok((0..request.n).map(|index| self.answer(&request, index)).collect())
    }

    /// Emits each reasoning and each answer as a single progress event.
    async fn generate_streaming(
        &self,
        request: GenerateRequest,
        progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        let tokens = letters(&request.prompt.transcript()).len();
        let responses = self.generate(request).await?;
        // The receiver may be dropped.
        let _ = progress.send(Progress::Prompt { tokens });
        for (answer, Response { text, reasoning, .. }) in responses.iter().enumerate() {
            if let Some(reasoning) = reasoning.as_ref().filter(|it| !it.text.is_empty()) {
                let _ = progress.send(Progress::Reasoning { answer, text: reasoning.text.clone() });
            }
            if !text.is_empty() {
                let _ = progress.send(Progress::Text { answer, text: text.clone() });
            }
        }
        Ok(responses)
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        require_prompt(&request.prompt)?;
        let weight = self.state().weight;
        let scored = request.continuations.iter().map(tokens).map(|token_ids| {
            let logprobs = score(weight, &request.prompt, &token_ids).0;
            TokenLogProbs { token_ids, logprobs }
        });
        Ok(scored.collect())
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        let before = *self.state();
        let (batch, slopes) = batch(before.weight, &step.examples, objective.as_ref())?;
        let value = objective.evaluate(&batch)?;
        let products = value.gradients.iter().zip(&slopes).flat_map(|(by_logprob, slopes)| {
            by_logprob.iter().zip(slopes).map(|(by_logprob, slope)| by_logprob * slope)
        });
        let gradient: f64 = products.sum();
        let clipped = step.max_grad_norm.map_or(gradient, |norm| gradient.clamp(-norm, norm));
        let momentum = if step.step == 0 { 0.0 } else { before.momentum };
        let momentum = 0.9 * momentum + clipped;
        *self.state() = State { weight: before.weight - step.learning_rate * momentum, momentum };
        let tokens = batch.views.iter().flat_map(|view| &view.lengths).sum::<usize>() as u64;
        Ok(StepReport { loss: value.loss, grad_norm: gradient.abs(), tokens, metrics: value.metrics })
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        let mut state = *self.state();
        if what == CheckpointKind::Model {
            state.momentum = 0.0;
        }
        let text = serde_json::to_string(&state).map_err(ComponentError::failed)?;
        std::fs::write(dir.join("state.json"), text).map_err(ComponentError::failed)
    }

    async fn load(&self, dir: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        let text = std::fs::read_to_string(dir.join("state.json")).map_err(ComponentError::failed)?;
        *self.state() = serde_json::from_str(&text).map_err(ComponentError::failed)?;
        Ok(())
    }
}

impl fmt::Debug for FakePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakePolicy").field("state", &*self.state()).finish_non_exhaustive()
    }
}

fn require_prompt(prompt: &Prompt) -> Result<(), ComponentError> {
    match prompt.messages.is_empty() {
        true => Err(ComponentError::bad_input("the prompt has no message")),
        false => Ok(()),
    }
}

/// The batch that an objective requires, and the derivative of each of its log-probs by the weight.
fn batch(
    weight: f64,
    examples: &[TrainExample],
    objective: &dyn PreferenceObjective,
) -> Result<(ObjectiveBatch, Vec<Vec<f64>>), ComponentError> {
    let wanted = objective.requirements();
    let per_token = wanted.granularity == Granularity::PerToken;
    let (mut views, mut slopes) = (Vec::new(), Vec::new());
    for &view in &wanted.views {
        let (policy, reference, lengths) = Default::default();
        let mut logprobs = ViewLogProbs { view, policy, reference, lengths };
        let mut of_view = Vec::new();
        for example in examples {
            let (prompt, target) = example.view(view)?;
            let tokens = tokens(&target.continuation);
            let (policy, slope) = score(weight, prompt, &tokens);
            add(&mut logprobs.policy, policy.iter().map(|&it| f64::from(it)), per_token);
            add(&mut of_view, slope.into_iter(), per_token);
            if wanted.reference {
                let known = target.reference.as_ref().filter(|known| known.len() == tokens.len());
                let known = known.ok_or_else(|| ComponentError::failed("a pair lacks its reference"))?;
                add(&mut logprobs.reference, known.iter().map(|&it| f64::from(it)), per_token);
            }
            logprobs.lengths.push(tokens.len());
        }
        views.push(logprobs);
        slopes.push(of_view);
    }
    Ok((ObjectiveBatch { views }, slopes))
}

/// Appends per-token values, or their sum.
fn add(to: &mut Vec<f64>, numbers: impl Iterator<Item = f64>, per_token: bool) {
    if per_token { to.extend(numbers) } else { to.push(numbers.sum()) }
}
