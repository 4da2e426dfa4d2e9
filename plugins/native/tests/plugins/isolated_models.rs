//! Policies and encoders of libraries in a process of their own keep the contracts, and end in the errors, of those in Python.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isr_api::{
    CheckpointKind, ComponentError, Continuation, GenerateRequest, ObjectiveBatch, ObjectiveValue, Policy,
    PreferenceObjective, Prompt, Requirements, Response, Sampling, StepReport, Target, TrainExample,
    TrainStep, View,
};
use isr_testing::fixtures::{frames, scene};
use serde_json::Map;

use crate::built::fixture;
use crate::isolated::load;
use crate::support::{behaviour, encoder, policy};

/// An isolated policy of that behaviour. Only what hangs has to reach its limit.
fn hostile(text: &str) -> Arc<dyn Policy> {
    let plugins = load(fixture(), |file| {
        file.call_s = Some(if text.starts_with("hang") { 2.0 } else { 120.0 });
        file.restarts = Some(2);
    });
    policy(&plugins, "faulty", &behaviour(text)).unwrap()
}

async fn generate(policy: &Arc<dyn Policy>) -> Result<Vec<Response>, ComponentError> {
    let sampling = Sampling { max_new_tokens: 12, ..Sampling::default() };
    let prompt = Prompt::about(&scene(), "what colour is the bar?");
    policy.generate(GenerateRequest { prompt, sampling, n: 2, seed: 7 }).await
}

fn step(index: u64) -> TrainStep {
    let target = |text: &str| {
        let reference = Some(text.chars().map(|letter| -0.1 - (letter as u8 % 7) as f32 / 3.0).collect());
        Target { continuation: Continuation::Answer(text.to_owned()), reference }
    };
    let example = |question: &str, chosen: &str| {
        TrainExample::new(Prompt::about(&scene(), question), target(chosen), Some(target("no.")))
    };
    let examples = vec![example("colour?", "the bar is red."), example("where?", "it moves left.")];
    TrainStep { examples, step: index, learning_rate: 0.05, max_grad_norm: Some(1.0), seed: 3 }
}

/// A hinge on the margin over the reference, which notes the batches that it is given.
#[derive(Default)]
struct Noting {
    across_batch: bool,
    per_token: bool,
    batches: Mutex<Vec<ObjectiveBatch>>,
}

impl PreferenceObjective for Noting {
    fn requirements(&self) -> Requirements {
        let needs = Requirements::new([View::Chosen, View::Rejected]).with_reference();
        let needs = if self.per_token { needs.per_token() } else { needs };
        if self.across_batch { needs.across_batch() } else { needs }
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        self.batches.lock().unwrap().push(batch.clone());
        let pairs = batch.pairs() as f64;
        let slope = |sign: f64, index: usize| sign * (1.0 + index as f64 / 3.0) / pairs;
        let gradients = [(-1.0, View::Chosen), (1.0, View::Rejected)].map(|(sign, view)| {
            let count = batch.view(view).unwrap().policy.len();
            (0..count).map(|index| slope(sign, index)).collect()
        });
        let metrics = BTreeMap::from([("share".to_owned(), pairs), ("third".to_owned(), 1.0 / 3.0)]);
        Ok(ObjectiveValue { loss: 0.1 + pairs / 7.0, gradients: gradients.into(), metrics })
    }
}

/// Refuses all batches.
struct Refusing;

impl PreferenceObjective for Refusing {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen])
    }

    fn evaluate(&self, _: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        Err(ComponentError::failed("no loss today"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_policy_and_encoder_keep_their_contracts() {
    let plugins = load(fixture(), |_| ());
    let two = policy(&plugins, "two", &Map::new()).unwrap();
    assert!(!two.reads_frames(), "as in this process");
    assert_eq!(isr_testing::policy(two).await, []);
    let mean = encoder(&plugins, "mean", &Map::new()).unwrap();
    assert_eq!(mean.device_key(), "paper");
    assert_eq!(isr_testing::encoder(mean).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn features_answers_and_scores_are_those_of_this_process() {
    let (apart, here) = (load(fixture(), |_| ()), crate::support::load(fixture()));
    let clip = frames(3, 8, 4);
    let of = |plugins| encoder(plugins, "mean", &Map::new()).unwrap();
    let (one, other) = (of(&apart).encode(&clip).await.unwrap(), of(&here).encode(&clip).await.unwrap());
    assert_eq!((&one.bytes, one.shape, one.dtype), (&other.bytes, other.shape, other.dtype));
    let of = |plugins| policy(plugins, "two", &Map::new()).unwrap();
    let (one, other) = (generate(&of(&apart)).await.unwrap(), generate(&of(&here)).await.unwrap());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!((&one.text, &one.logprobs), (&other.text, &other.logprobs));
    }
}

/// Reports of two steps and the batches of the objective.
async fn trained(policy: &Arc<dyn Policy>, objective: Noting) -> (Vec<StepReport>, Vec<ObjectiveBatch>) {
    let objective = Arc::new(objective);
    let mut reports = Vec::new();
    for index in 0..2 {
        reports.push(policy.train_step(step(index), Arc::clone(&objective) as _).await.unwrap());
    }
    let batches = objective.batches.lock().unwrap().clone();
    (reports, batches)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_step_is_that_of_this_process_whatever_the_objective_and_the_micro_batches() {
    let here = crate::support::load(fixture());
    for behaved in ["none", "train in parts"] {
        for (across_batch, per_token) in [(false, false), (true, false), (false, true)] {
            let objective = || Noting { across_batch, per_token, ..Noting::default() };
            let (one, other) = (hostile(behaved), policy(&here, "faulty", &behaviour(behaved)).unwrap());
            let (apart, batches) = trained(&one, objective()).await;
            let (expected, asked) = trained(&other, objective()).await;
            assert_eq!(apart, expected);
            assert_eq!(batches, asked);
            let pairs: Vec<_> = batches.iter().map(ObjectiveBatch::pairs).collect();
            let whole = behaved == "none";
            assert_eq!(pairs, if whole { vec![2; 2] } else { vec![1; 4] }, "{behaved}");
            let answers = [generate(&one).await.unwrap(), generate(&other).await.unwrap()];
            let [one, other] = answers.map(|all| all[0].logprobs.clone());
            assert_eq!(one, other, "the same weights");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_objective_that_fails_is_quoted_and_a_load_makes_the_weights_known_again() {
    let policy = hostile("none");
    let dir = tempfile::tempdir().unwrap();
    policy.save(dir.path(), CheckpointKind::TrainerState).await.unwrap();
    let said = policy.train_step(step(0), Arc::new(Refusing)).await.unwrap_err().to_string();
    assert_eq!(said, "plugin `faulty`, train_step: no loss today");
    let said = generate(&policy).await.unwrap_err().to_string();
    assert!(said.contains("its weights are unknown"), "{said}");
    policy.load(dir.path(), CheckpointKind::TrainerState).await.unwrap();
    generate(&policy).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_aborts_or_hangs_in_generate_fails_that_sample() {
    for (text, says) in [
        ("abort in generate", "plugin `faulty`, generate: the process ended (by signal 6"),
        ("hang in generate", "plugin `faulty`, generate: no answer within 2 s"),
        ("refuse in generate", "plugin `faulty`, generate: this prompt is too dark"),
    ] {
        let policy = hostile(text);
        let error = generate(&policy).await.unwrap_err();
        assert!(matches!(error, ComponentError::BadInput(_)), "{error:?}");
        assert!(error.to_string().starts_with(says), "{error}");
        // Its weights are those that it began with, so a new process stands for it.
        let known = policy.try_fingerprint().unwrap();
        policy.train_step(step(0), Arc::new(Noting::default())).await.unwrap();
        assert_ne!(policy.try_fingerprint().unwrap(), known);
    }
    let error = generate(&hostile("nan in generate")).await.unwrap_err();
    assert!(matches!(error, ComponentError::Failed(_)), "{error:?}");
    assert!(
        error.to_string().starts_with("plugin `faulty`, generate: a message cannot be read"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_ends_or_hangs_in_a_training_step_stops_the_run() {
    for (text, says) in [
        ("abort in training", "plugin `faulty`, train_step: the process ended (by signal 6"),
        ("hang in training", "plugin `faulty`, train_step: no answer within 2 s; the process was ended"),
    ] {
        let policy = hostile(text);
        let error = policy.train_step(step(0), Arc::new(Noting::default())).await.unwrap_err();
        assert!(matches!(error, ComponentError::Failed(_)), "{error:?}");
        let said = error.to_string();
        assert!(said.starts_with(says), "{said}");
        assert!(
            said.contains("its weights were those of a training and are gone with it: start the"),
            "{said}"
        );
        assert!(policy.try_fingerprint().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_misbehaves_is_named() {
    for (text, says) in [
        ("abort", "plugin `faulty`, encode: the process ended (by signal 6"),
        ("hang", "plugin `faulty`, encode: no answer within 2 s"),
        ("bytes missing", "its answer cannot be used: the file "),
        ("one too many", "its answer cannot be used: features of shape [3, 1, 1] for 2 frames"),
    ] {
        let plugins = load(fixture(), |file| {
            file.call_s = Some(if text == "hang" { 2.0 } else { 120.0 });
            file.restarts = Some(1);
        });
        let encoder = encoder(&plugins, "faulty", &behaviour(text)).unwrap();
        let said = encoder.encode(&frames(2, 4, 4)).await.unwrap_err().to_string();
        assert!(said.starts_with("plugin `faulty`, encode: ") && said.contains(says), "{text}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_after_one_that_nobody_waits_for() {
    let policy = hostile("none");
    let before = policy.try_fingerprint().unwrap();
    for _ in 0..20 {
        let waited = tokio::time::timeout(Duration::from_micros(300), generate(&policy)).await;
        drop(waited);
    }
    let dropped = policy.train_step(step(0), Arc::new(Noting::default()));
    drop(tokio::time::timeout(Duration::from_millis(1), dropped).await);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state.json"), r#"{"weight": 0.5, "momentum": 0.0}"#).unwrap();
    policy.load(dir.path(), CheckpointKind::Model).await.unwrap();
    assert_ne!(policy.try_fingerprint().unwrap(), before);
    generate(&policy).await.unwrap();
}
