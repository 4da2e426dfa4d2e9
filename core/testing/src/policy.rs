//! Contract tests of policies.

use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use isr_api::{
    CheckpointKind, ComponentError, Continuation, GenerateRequest, ObjectiveBatch, ObjectiveValue, Policy,
    PreferenceObjective, Prompt, Requirements, Response, Sampling, ScoreRequest, Target, TrainExample,
    TrainStep, View,
};

use crate::call::{Outcome, call};
use crate::finding::{Failure, Findings};
use crate::fixtures::{hostile_texts, scene};

/// Maximum difference between log-probs of sampling and of scoring.
const CLOSE: f32 = 1e-4;

/// Tests a policy against its contract. Trains it by two steps and leaves it at the checkpoint of the first.
///
/// | rule | requirement |
/// |---|---|
/// | `answers` | the requested number, a log-prob of at most 0 per token, at most `max_new_tokens` tokens |
/// | `deterministic` | the same request and seed give the same tokens |
/// | `concurrent` | concurrent requests give the same answers as sequential ones |
/// | `scores` | scoring a sampled answer's tokens gives its log-probs, within 1e-4 |
/// | `training` | a step changes the fingerprint; its report is finite |
/// | `snapshots` | `load` of a saved checkpoint restores fingerprint and answers; of a missing folder, it fails and changes nothing |
/// | `errors` | no panic; an invalid prompt is `BadInput` |
pub async fn policy(policy: Arc<dyn Policy>) -> Vec<Failure> {
    let mut findings = Findings::default();
    let first = check_answers(&policy, &mut findings).await;
    if let Some(first) = first {
        check_scores(&policy, &first, &mut findings).await;
        check_training(&policy, &first, &mut findings).await;
    }
    check_hostile(&policy, &mut findings).await;
    findings.done()
}

fn request(seed: u64) -> GenerateRequest {
    let sampling = Sampling { max_new_tokens: 12, ..Sampling::default() };
    GenerateRequest { prompt: Prompt::about(&scene(), "what colour is the bar?"), sampling, n: 2, seed }
}

async fn check_answers(policy: &Arc<dyn Policy>, findings: &mut Findings) -> Option<Vec<Response>> {
    let seeds = [0, 1, 2, u64::MAX];
    let mut alone = Vec::new();
    for seed in seeds {
        let answers = call(policy.generate(request(seed))).await.value(findings, "an ordinary request")?;
        check_layout(&answers, &request(seed), findings);
        let again = call(policy.generate(request(seed))).await;
        findings.require(again == Outcome::Returned(answers.clone()), "deterministic", || {
            format!("seed {seed} gave {:?} and then other answers", texts(&answers))
        });
        alone.push(answers);
    }
    let calls = seeds.map(|seed| {
        let policy = Arc::clone(policy);
        tokio::spawn(async move { call(policy.generate(request(seed))).await })
    });
    for (outcome, answers) in join_all(calls).await.into_iter().zip(&alone) {
        let same = matches!(&outcome, Ok(Outcome::Returned(together)) if together == answers);
        findings.require(same, "concurrent", || {
            format!("a request got {:?} alone and something else beside others", texts(answers))
        });
    }
    alone.into_iter().next()
}

fn texts(answers: &[Response]) -> Vec<&str> {
    answers.iter().map(|answer| answer.text.as_str()).collect()
}

fn check_layout(answers: &[Response], request: &GenerateRequest, findings: &mut Findings) {
    findings.require(answers.len() == request.n, "answers", || {
        format!("{} answers for {}", answers.len(), request.n)
    });
    for Response { token_ids, logprobs, reasoning, .. } in answers {
        let reasoned = reasoning.as_ref().map_or(0, |reasoning| reasoning.tokens);
        findings.require(reasoned <= token_ids.len(), "answers", || {
            format!("{reasoned} tokens of reasoning among {}", token_ids.len())
        });
        let (tokens, numbers) = (token_ids.len(), logprobs.len());
        findings.require(tokens == numbers && tokens <= request.sampling.max_new_tokens, "answers", || {
            format!(
                "{numbers} log-probs for {tokens} tokens, of at most {}",
                request.sampling.max_new_tokens
            )
        });
        let wrong = logprobs.iter().find(|number| !number.is_finite() || **number > 0.0);
        findings.require(wrong.is_none(), "answers", || format!("a log-prob of {wrong:?}"));
    }
}

async fn check_scores(policy: &Arc<dyn Policy>, answers: &[Response], findings: &mut Findings) {
    let tokens = answers.iter().map(|answer| Continuation::Tokens(answer.token_ids.clone()));
    let asked = ScoreRequest { prompt: request(0).prompt, continuations: tokens.collect() };
    let Some(scores) = call(policy.score(asked)).await.value(findings, "scoring of sampled answers") else {
        return;
    };
    findings.require(scores.len() == answers.len(), "scores", || {
        format!("{} scores for {} continuations", scores.len(), answers.len())
    });
    for (score, answer) in scores.iter().zip(answers) {
        let pairs = score.logprobs.iter().zip(&answer.logprobs);
        let close = score.logprobs.len() == answer.logprobs.len()
            && pairs.into_iter().all(|(one, other)| (one - other).abs() <= CLOSE);
        findings.require(score.token_ids == answer.token_ids && close, "scores", || {
            format!("{:?} when scored, {:?} when sampled", score.logprobs, answer.logprobs)
        });
    }
}

/// Objective that raises the mean margin of chosen over rejected log-probs.
struct Difference;

impl PreferenceObjective for Difference {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen, View::Rejected])
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let (chosen, rejected) = (batch.view(View::Chosen)?, batch.view(View::Rejected)?);
        let count = batch.pairs() as f64;
        let total: f64 = rejected.policy.iter().sum::<f64>() - chosen.policy.iter().sum::<f64>();
        let gradients = vec![vec![-1.0 / count; batch.pairs()], vec![1.0 / count; batch.pairs()]];
        Ok(ObjectiveValue { loss: total / count, gradients, metrics: Default::default() })
    }
}

fn step(index: u64) -> TrainStep {
    let target =
        |text: &str| Target { continuation: Continuation::Answer(text.to_owned()), reference: None };
    let (chosen, rejected) = (target("the bar is red."), Some(target("no.")));
    let example = TrainExample::new(request(0).prompt, chosen, rejected);
    let (examples, max_grad_norm) = (vec![example], Some(1.0));
    TrainStep { examples, step: index, learning_rate: 0.05, max_grad_norm, seed: index }
}

async fn check_training(policy: &Arc<dyn Policy>, first: &[Response], findings: &mut Findings) {
    let start = policy.fingerprint();
    if !train(policy, 0, findings).await {
        return;
    }
    let trained = policy.fingerprint();
    findings.require(trained != start, "training", || "a step left the fingerprint as it was".to_owned());
    let Ok(dir) = tempfile::tempdir() else {
        return findings.note("snapshots", "no temporary folder could be made");
    };
    let what = CheckpointKind::TrainerState;
    if call(policy.save(dir.path(), what)).await.value(findings, "saving").is_none() {
        return;
    }
    let answers = call(policy.generate(request(0))).await;
    if !train(policy, 1, findings).await {
        return;
    }
    let (after, missing) = (policy.fingerprint(), dir.path().join("missing"));
    check_refuses(policy, &missing, findings).await;
    findings.require(policy.fingerprint() == after, "snapshots", || {
        "loading a folder that is not there failed, and changed the weights".to_owned()
    });
    if call(policy.load(dir.path(), what)).await.value(findings, "loading what it saved").is_none() {
        return;
    }
    let restored = call(policy.generate(request(0))).await;
    findings.require(policy.fingerprint() == trained && restored == answers, "snapshots", || {
        format!(
            "after loading what it saved, it answers otherwise than before (at first {:?})",
            texts(first)
        )
    });
    train(policy, 1, findings).await;
    findings.require(policy.fingerprint() == after, "snapshots", || {
        "a step after loading a training snapshot did not do what it did before; is optimiser state saved?"
            .to_owned()
    });
    call(policy.load(dir.path(), what)).await.value(findings, "loading what it saved");
}

async fn train(policy: &Arc<dyn Policy>, index: u64, findings: &mut Findings) -> bool {
    let outcome = call(policy.train_step(step(index), Arc::new(Difference))).await;
    let Some(report) = outcome.value(findings, "a training step") else { return false };
    findings.require(report.loss.is_finite() && report.grad_norm.is_finite(), "training", || {
        format!("a step reported {report:?}")
    });
    true
}

async fn check_refuses(policy: &Arc<dyn Policy>, missing: &Path, findings: &mut Findings) {
    match call(policy.load(missing, CheckpointKind::TrainerState)).await {
        Outcome::Returned(()) => findings.note("snapshots", "loading a folder that is not there succeeded"),
        Outcome::Panicked(text) => {
            findings.note("errors", format!("loading a folder that is not there panicked with \"{text}\""));
        }
        _ => {}
    }
}

async fn check_hostile(policy: &Arc<dyn Policy>, findings: &mut Findings) {
    let empty = ("no message", Prompt::default());
    // 65,536 characters exceed any context; a tokenizer takes seconds for a megabyte.
    let cut = |text: String| text.chars().take(1 << 16).collect::<String>();
    let texts = hostile_texts().into_iter().map(|(what, text)| (what, Prompt::text(cut(text))));
    for (what, prompt) in texts.chain([empty]) {
        let asked = GenerateRequest { prompt, n: 1, ..request(0) };
        let outcome = call(policy.generate(asked)).await;
        outcome.value_or_refusal(findings, &format!("a prompt of {what}"));
    }
}
