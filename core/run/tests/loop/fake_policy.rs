//! A policy of four numbers: the logits of four words, shifted by prompt and position. It is trained by
//! gradient descent with momentum, so that a snapshot without optimiser state would be noticed.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Continuation, Fingerprint, FinishReason, GenerateRequest,
    ObjectiveBatch, Part, Policy, PreferenceObjective, Prompt, Requirements, Response, ScoreRequest,
    StepReport, Streams, Target, TokenLogProbs, TrainExample, TrainStep, ViewLogProbs,
};
use serde::{Deserialize, Serialize};

use crate::control::Control;

pub(crate) const WORDS: [&str; 4] = ["red", "green", "blue", "grey"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    weights: [f64; 4],
    momentum: [f64; 4],
}

/// Spoils answers.
pub(crate) type Quirk = fn(&mut Vec<Response>);

/// Spoils scores.
pub(crate) type ScoreQuirk = fn(&mut Vec<TokenLogProbs>);

pub(crate) struct FakePolicy {
    state: Mutex<State>,
    control: Arc<Control>,
    /// The steps that it was asked to take.
    pub(crate) steps: Mutex<Vec<TrainStep>>,
    /// Spoils what it answers.
    pub(crate) quirk: Mutex<Option<Quirk>>,
    /// Spoils what it scores.
    pub(crate) score_quirk: Mutex<Option<ScoreQuirk>>,
}

impl FakePolicy {
    pub(crate) fn new(weights: [f64; 4], control: Arc<Control>) -> Self {
        let state = Mutex::new(State { weights, momentum: [0.0; 4] });
        let (quirk, score_quirk) = (Mutex::default(), Mutex::default());
        Self { state, control, steps: Mutex::default(), quirk, score_quirk }
    }

    fn weights(&self) -> [f64; 4] {
        self.state.lock().unwrap().weights
    }

    fn answer(&self, request: &GenerateRequest, index: usize) -> Response {
        let text = seen(&request.prompt);
        let greedy = request.sampling.temperature == 0.0;
        let draws = Streams::new(request.seed);
        let draw = |what: &str| draws.seed(index as u32, what, "") as f64 / u64::MAX as f64;
        let longest = request.sampling.max_new_tokens.min(3);
        let length = if greedy { longest } else { 1 + (draw("length") * longest as f64) as usize };
        let length = length.clamp(1, longest);
        let mut response = Response {
            text: String::new(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            finish_reason: FinishReason::Stop,
            policy: self.fingerprint(),
            reasoning: None,
        };
        for position in 0..length {
            let logprobs = distribution(&self.weights(), &text, position);
            let token =
                if greedy { best(&logprobs) } else { drawn(&logprobs, draw(&position.to_string())) };
            response.token_ids.push(token as u32);
            response.logprobs.push(logprobs[token] as f32);
        }
        response.text = words(&response.token_ids);
        response
    }
}

fn words(tokens: &[u32]) -> String {
    tokens.iter().map(|&token| WORDS[token as usize]).collect::<Vec<_>>().join(" ")
}

/// Log-probs of the four words.
fn distribution(weights: &[f64; 4], prompt: &str, position: usize) -> [f64; 4] {
    let shift =
        |word: usize| Streams::new(1).seed(position as u32, prompt, WORDS[word]) as f64 / u64::MAX as f64;
    let logits: [f64; 4] = std::array::from_fn(|word| weights[word] + shift(word));
    let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    logits.map(|logit| logit - total)
}

fn best(logprobs: &[f64; 4]) -> usize {
    (0..4).max_by(|&a, &b| logprobs[a].total_cmp(&logprobs[b])).unwrap()
}

fn drawn(logprobs: &[f64; 4], draw: f64) -> usize {
    let mut below = 0.0;
    let reached = logprobs.iter().position(|logprob| {
        below += logprob.exp();
        draw < below
    });
    reached.unwrap_or(3)
}

fn tokens(continuation: &Continuation) -> Vec<u32> {
    match continuation {
        Continuation::Tokens(tokens) => tokens.clone(),
        Continuation::Answer(text) | Continuation::Prefix(text) => {
            let number = |word: &str| WORDS.iter().position(|known| *known == word).unwrap_or(3) as u32;
            text.split_whitespace().map(number).collect()
        }
    }
}

/// What a prompt says, and the first pixel of its video where that is not black, as it is in whole videos.
fn seen(prompt: &Prompt) -> String {
    let parts = prompt.messages.iter().flat_map(|message| &message.parts);
    let pixel = |part: &Part| match part {
        Part::Video(scene) => scene.frames.rgb.first().filter(|&&red| red > 0).map(u8::to_string),
        Part::Text(_) => None,
    };
    prompt.transcript() + &parts.filter_map(pixel).collect::<String>()
}

/// Log-prob of each token, and the gradient of their sum by the weights.
fn score(weights: &[f64; 4], prompt: &Prompt, tokens: &[u32]) -> (Vec<f32>, [f64; 4]) {
    let text = seen(prompt);
    let mut gradient = [0.0; 4];
    let mut logprobs = Vec::new();
    for (position, &token) in tokens.iter().enumerate() {
        let distribution = distribution(weights, &text, position);
        logprobs.push(distribution[token as usize] as f32);
        for (word, (slope, logprob)) in gradient.iter_mut().zip(distribution).enumerate() {
            *slope += f64::from(u8::from(word == token as usize)) - logprob.exp();
        }
    }
    (logprobs, gradient)
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}

#[async_trait]
impl Policy for FakePolicy {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_json(&self.weights())
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.control.enter(&format!("generate {}", request.seed)).await?;
        let mut responses = (0..request.n).map(|index| self.answer(&request, index)).collect();
        if let Some(spoil) = *self.quirk.lock().unwrap() {
            spoil(&mut responses);
        }
        Ok(responses)
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.control.enter("score").await?;
        let scored = request.continuations.iter().map(tokens).map(|token_ids| {
            let logprobs = score(&self.weights(), &request.prompt, &token_ids).0;
            TokenLogProbs { token_ids, logprobs }
        });
        let mut scored = scored.collect();
        if let Some(spoil) = *self.score_quirk.lock().unwrap() {
            spoil(&mut scored);
        }
        Ok(scored)
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        self.control.enter(&format!("train {}", step.step)).await?;
        if !self.control.is_silent() {
            self.steps.lock().unwrap().push(step.clone());
        }
        let mut state = self.state.lock().unwrap();
        if step.step == 0 {
            state.momentum = [0.0; 4];
        }
        let (batch, slopes) = batch(&state.weights, &step.examples, &objective.requirements())?;
        let value = objective.evaluate(&batch)?;
        let mut gradient = [0.0; 4];
        for (by_logprob, slopes) in value.gradients.iter().zip(&slopes) {
            for (by_logprob, slope) in by_logprob.iter().zip(slopes) {
                (0..4).for_each(|word| gradient[word] += by_logprob * slope[word]);
            }
        }
        let State { weights, momentum } = &mut *state;
        for ((weight, momentum), gradient) in weights.iter_mut().zip(momentum).zip(gradient) {
            *momentum = 0.9 * *momentum + gradient;
            *weight -= step.learning_rate * *momentum;
        }
        Ok(StepReport {
            loss: value.loss,
            grad_norm: gradient.iter().map(|value| value * value).sum::<f64>().sqrt(),
            tokens: batch.views.iter().flat_map(|view| &view.lengths).sum::<usize>() as u64,
            metrics: value.metrics,
        })
    }

    /// A second for each step.
    fn busy_seconds(&self) -> Option<f64> {
        Some(self.steps.lock().unwrap().len() as f64)
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "{} is not empty", dir.display());
        self.control.enter("save").await?;
        let State { weights, momentum } = self.state.lock().unwrap().clone();
        let written = std::fs::write(dir.join("weights.json"), serde_json::to_string(&weights).unwrap());
        written.map_err(ComponentError::failed)?;
        if what == CheckpointKind::TrainerState {
            // In a folder of its own, as optimisers of several devices have.
            let folder = dir.join("optimiser");
            std::fs::create_dir(&folder).map_err(ComponentError::failed)?;
            let text = serde_json::to_string(&momentum).unwrap();
            std::fs::write(folder.join("momentum.json"), text).map_err(ComponentError::failed)?;
        }
        Ok(())
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.control.enter("load").await?;
        let read = |name: &str| -> Result<[f64; 4], ComponentError> {
            let text = std::fs::read_to_string(dir.join(name)).map_err(ComponentError::failed)?;
            serde_json::from_str(&text).map_err(ComponentError::failed)
        };
        let weights = read("weights.json")?;
        let momentum = match what {
            CheckpointKind::TrainerState => read("optimiser/momentum.json")?,
            CheckpointKind::Model => [0.0; 4],
        };
        *self.state.lock().unwrap() = State { weights, momentum };
        Ok(())
    }
}

type Slopes = Vec<Vec<[f64; 4]>>;

/// Log-probs of what the objective wants to see, and the gradient of each by the weights.
fn batch(
    weights: &[f64; 4],
    examples: &[TrainExample],
    needs: &Requirements,
) -> Result<(ObjectiveBatch, Slopes), ComponentError> {
    let mut views = Vec::new();
    let mut slopes = Vec::new();
    for &view in &needs.views {
        let mut logprobs =
            ViewLogProbs { view, policy: Vec::new(), reference: Vec::new(), lengths: Vec::new() };
        let mut of_view = Vec::new();
        for example in examples {
            let (prompt, Target { continuation, reference }) = example.view(view)?;
            match reference {
                Some(reference) => logprobs.reference.push(sum(reference)),
                None if needs.reference => {
                    return Err(ComponentError::failed("a pair lacks its reference's log-probs"));
                }
                None => {}
            }
            let tokens = tokens(continuation);
            let (policy, slope) = score(weights, prompt, &tokens);
            logprobs.policy.push(sum(&policy));
            logprobs.lengths.push(tokens.len());
            of_view.push(slope);
        }
        views.push(logprobs);
        slopes.push(of_view);
    }
    Ok((ObjectiveBatch { views }, slopes))
}
