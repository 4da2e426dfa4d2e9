//! A training step: micro-batches go to the process, the objective is evaluated here.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;
use isr_api::messages::{
    AppliedMessage, ApplyMessage, BackwardMessage, ForwardMessage, ForwardedMessage, SequenceMessage,
};
use isr_api::{
    ComponentError, ObjectiveBatch, Policy, PreferenceObjective, Prompt, Requirements, ScoreDrift,
    ScoreRequest, StepReport, Streams, Target, TokenLogProbs, TrainExample, TrainStep, View, ViewLogProbs,
};
use serde_json::Value;

use super::RemotePolicy;
use crate::error::{SessionError, SessionErrorKind};
use crate::keys;
use crate::session::Sending;

/// Continuations that are scored at a time, before an objective that compares across the batch is evaluated.
const SCORED_AT_ONCE: usize = 32;

/// A completion to train on, after its prompt.
type Answer<'s> = (&'s Prompt, &'s Target);

/// Derivatives of the loss by the log-probs of each answer's tokens.
type Gradients = Vec<Vec<f64>>;

/// What adds up over the micro-batches of a step.
#[derive(Default)]
struct Tally {
    loss: f64,
    tokens: u64,
    metrics: BTreeMap<String, f64>,
    drift: Option<ScoreDrift>,
}

/// Answers of examples: view by view, in a view example by example.
fn answers<'s>(
    examples: &'s [TrainExample],
    needs: &Requirements,
) -> Result<Vec<Answer<'s>>, ComponentError> {
    let of_view = |&view: &View| examples.iter().map(move |example| example.view(view));
    needs.views.iter().flat_map(of_view).collect()
}

/// Evaluates an objective on the scores of answers; `share` is that of the answers in the batch. Returns the loss's
/// derivatives by answer.
fn evaluated(
    objective: &dyn PreferenceObjective,
    needs: &Requirements,
    (answers, scores): (&[Answer<'_>], &[TokenLogProbs]),
    share: f64,
    tally: &mut Tally,
) -> Result<Gradients, ComponentError> {
    let examples = answers.len() / needs.views.len().max(1);
    let (mut views, mut lengths) = (Vec::new(), Vec::new());
    for (index, view) in needs.views.iter().enumerate() {
        let here = index * examples..(index + 1) * examples;
        let (mut policy, mut references, mut of_view) = (Vec::new(), Vec::new(), Vec::new());
        for ((_, target), score) in answers[here.clone()].iter().zip(&scores[here]) {
            let own: Vec<f64> = score.logprobs.iter().map(|&value| f64::from(value)).collect();
            let reference = target.required_reference(own.len(), needs).map_err(ComponentError::failed)?;
            let compared = matches!(view, View::Chosen | View::Rejected);
            if let Some(drift) = tally.drift.as_mut().filter(|_| compared) {
                drift.add(&own, &reference);
            }
            of_view.push(own.len());
            policy.extend(own);
            references.extend(reference);
        }
        tally.tokens += policy.len() as u64;
        views.push(ViewLogProbs::of_tokens(*view, &policy, &references, of_view.clone(), needs));
        lengths.push(of_view);
    }
    let value = objective.evaluate(&ObjectiveBatch { views })?;
    tally.loss += value.loss * share;
    for (name, number) in &value.metrics {
        *tally.metrics.entry(name.clone()).or_insert(0.0) += number * share;
    }
    let flat = needs.token_gradients(&lengths, &value.gradients).map_err(ComponentError::failed)?;
    let mut rest = flat.into_iter().map(|slope| slope * share);
    Ok(lengths.iter().flatten().map(|&length| rest.by_ref().take(length).collect()).collect())
}

impl RemotePolicy {
    /// Takes a step.
    pub(super) async fn step(
        &self,
        step: &TrainStep,
        objective: &dyn PreferenceObjective,
    ) -> Result<StepReport, ComponentError> {
        self.check_begin(step)?;
        let needs = objective.requirements();
        // At step 0 the policy is its own reference.
        let drift = (step.step == 0 && needs.reference).then(ScoreDrift::default);
        let mut tally = Tally { drift, ..Tally::default() };
        match needs.across_batch && step.examples.len() > self.micro_batch {
            true => self.together(step, objective, &needs, &mut tally).await?,
            false => self.apart(step, objective, &needs, &mut tally).await?,
        }
        let grad_norm = self.apply(step).await?;
        let mut report =
            StepReport { loss: tally.loss, grad_norm, tokens: tally.tokens, metrics: tally.metrics };
        report.metrics.extend(tally.drift.map(ScoreDrift::metrics).unwrap_or_default());
        Ok(report)
    }

    /// Evaluates the objective on each micro-batch.
    async fn apart(
        &self,
        step: &TrainStep,
        objective: &dyn PreferenceObjective,
        needs: &Requirements,
        tally: &mut Tally,
    ) -> Result<(), ComponentError> {
        for (index, part) in step.examples.chunks(self.micro_batch).enumerate() {
            let answers = answers(part, needs)?;
            let scores = self.forward(step, index, &answers).await?;
            let share = part.len() as f64 / step.examples.len() as f64;
            let gradients = evaluated(objective, needs, (&answers, &scores), share, tally)?;
            self.backward(gradients).await?;
        }
        Ok(())
    }

    /// Evaluates the objective on the log-probs of the whole batch, which are computed without a graph first.
    async fn together(
        &self,
        step: &TrainStep,
        objective: &dyn PreferenceObjective,
        needs: &Requirements,
        tally: &mut Tally,
    ) -> Result<(), ComponentError> {
        let all = answers(&step.examples, needs)?;
        let scores = self.scores(&all).await?;
        let gradients = evaluated(objective, needs, (&all, &scores), 1.0, tally)?;
        let (examples, mut start) = (step.examples.len(), 0);
        for (index, part) in step.examples.chunks(self.micro_batch).enumerate() {
            let places: Vec<usize> = (0..needs.views.len())
                .flat_map(|view| (start..start + part.len()).map(move |place| view * examples + place))
                .collect();
            start += part.len();
            let forward = self.forward(step, index, &answers(part, needs)?).await?;
            let of_part: Gradients = places.iter().map(|&place| gradients[place].clone()).collect();
            let lengths =
                |all: &[TokenLogProbs]| all.iter().map(|it| it.logprobs.len()).collect::<Vec<_>>();
            let (found, expected) = (lengths(&forward), of_part.iter().map(Vec::len).collect::<Vec<_>>());
            if found != expected {
                let (found, expected) = (shown(&found), shown(&expected));
                let text =
                    format!("sequences of {found} tokens, which had {expected} when they were scored");
                return Err(self.unusable("forward", text));
            }
            self.backward(of_part).await?;
        }
        Ok(())
    }

    /// Scores answers as `score` does; what is wrong with one is no sample's fault.
    async fn scores(&self, answers: &[Answer<'_>]) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let calls: Vec<_> = answers.iter().map(|&answer| self.score_one(answer)).collect();
        let all: Vec<_> = stream::iter(calls).buffered(SCORED_AT_ONCE).try_collect().await?;
        Ok(all.into_iter().flatten().collect())
    }

    async fn score_one(&self, answer: Answer<'_>) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let (prompt, target) = answer;
        let request =
            ScoreRequest { prompt: prompt.clone(), continuations: vec![target.continuation.clone()] };
        let scores = Policy::score(self, request).await;
        let scores = scores.map_err(|error| ComponentError::failed(error.to_string()))?;
        self.checked("score", scores, &[answer])
    }

    /// Checks the scores of answers.
    fn checked(
        &self,
        call: &'static str,
        scores: Vec<TokenLogProbs>,
        answers: &[Answer<'_>],
    ) -> Result<Vec<TokenLogProbs>, ComponentError> {
        if scores.len() != answers.len() {
            let text = format!("it has {} scores for {} sequences", scores.len(), answers.len());
            return Err(self.unusable(call, text));
        }
        let mut both = scores.iter().zip(answers).enumerate();
        let wrong = both.find_map(|(index, (score, (_, target)))| {
            score.check(&target.continuation).err().map(|reason| format!("sequence {index} {reason}"))
        });
        wrong.map_or(Ok(scores), |text| Err(self.unusable(call, text)))
    }

    async fn forward(
        &self,
        step: &TrainStep,
        index: usize,
        answers: &[Answer<'_>],
    ) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let mut lease = self.exchange.lease();
        let mut sequence = |(prompt, target): &Answer<'_>| {
            let continuation = target.continuation.clone();
            Ok(SequenceMessage { prompt: lease.prompt(prompt)?, continuation })
        };
        let sequences = answers.iter().map(&mut sequence).collect::<Result<_, ComponentError>>()?;
        let seed = Streams::new(step.seed).seed(0, "micro-batch", &index.to_string());
        let message = ForwardMessage { step: step.step, seed, begin: index == 0, sequences };
        let value = self.trained("forward", &message, Sending::Alone).await?;
        let ForwardedMessage { scores } =
            keys::read(value).map_err(|reason| self.unusable("forward", reason))?;
        self.checked("forward", scores, answers)
    }

    async fn backward(&self, gradients: Gradients) -> Result<(), ComponentError> {
        self.trained("backward", &BackwardMessage { gradients }, Sending::Alone).await.map(drop)
    }

    /// Takes the optimiser's step; returns the norm of the gradient.
    async fn apply(&self, step: &TrainStep) -> Result<f64, ComponentError> {
        let TrainStep { step, learning_rate, max_grad_norm, .. } = *step;
        let change = self.weights.begin();
        let message = ApplyMessage { step, learning_rate, max_grad_norm };
        let value = self.trained("apply", &message, Sending::Changing).await?;
        let read = || {
            let AppliedMessage { grad_norm, fingerprint } = keys::read(value)?;
            change.done(&self.identity, fingerprint)?;
            Ok(grad_norm.0)
        };
        read().map_err(|reason| self.unusable("apply", reason))
    }

    async fn trained(
        &self,
        method: &'static str,
        message: &(impl serde::Serialize + Sync),
        sending: Sending,
    ) -> Result<Value, ComponentError> {
        self.once(method, message, sending).await.map_err(|error| self.given_up(method, &error))
    }

    /// The error of a training step that was not taken.
    pub(super) fn given_up(&self, method: &'static str, error: &SessionError) -> ComponentError {
        let text = match error.kind {
            SessionErrorKind::Lost { .. } | SessionErrorKind::Reported { .. } => error.to_string(),
            _ => format!("{error}; the training step is given up"),
        };
        self.wrong(method, text)
    }

    /// Checks that a step can be begun: its weights are known and there are examples.
    pub(super) fn check_begin(&self, step: &TrainStep) -> Result<(), ComponentError> {
        self.weights.known().map_err(|reason| self.wrong("train_step", reason))?;
        match step.examples.is_empty() {
            true => Err(self.wrong("train_step", "the batch has no example".to_owned())),
            false => Ok(()),
        }
    }
}

/// Numbers for a message, the first few of them.
fn shown(numbers: &[usize]) -> String {
    let more = if numbers.len() > 8 { ", ..." } else { "" };
    let first: Vec<String> = numbers.iter().take(8).map(usize::to_string).collect();
    format!("[{}{more}]", first.join(", "))
}
