//! DPO and AdamW against torch's autograd and `torch.optim.AdamW` (goldens of transformers 5.23.0).

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::sync::Arc;

use isr_core::{
    ComponentError, Continuation, Granularity, ObjectiveBatch, ObjectiveValue, Policy, PreferenceObjective,
    Prompt, Requirements, Snapshot, Target, TrainExample, TrainStep, View,
};
use isr_torch::{LlavaConfig, TrainingConfig};
use support::{Golden, floats, scene};

/// DPO's sigmoid loss (arXiv 2305.18290, eq. 7), written down apart from the project's own.
struct Dpo {
    beta: f64,
}

impl PreferenceObjective for Dpo {
    fn requirements(&self) -> Requirements {
        let views = vec![View::Chosen, View::Rejected];
        Requirements { views, granularity: Granularity::Summed, reference: true }
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let (chosen, rejected) = (batch.view(View::Chosen)?, batch.view(View::Rejected)?);
        let pairs = batch.pairs() as f64;
        let mut value = ObjectiveValue {
            loss: 0.0,
            gradients: vec![Vec::new(), Vec::new()],
            metrics: Default::default(),
        };
        for pair in 0..batch.pairs() {
            let logit = (chosen.policy[pair] - chosen.reference[pair])
                - (rejected.policy[pair] - rejected.reference[pair]);
            let wrong = 1.0 / (1.0 + (self.beta * logit).exp());
            value.loss -= (1.0 - wrong).ln() / pairs;
            value.gradients[0].push(-self.beta * wrong / pairs);
            value.gradients[1].push(self.beta * wrong / pairs);
        }
        Ok(value)
    }
}

fn example(golden: &Golden) -> TrainExample {
    let scene = scene(golden, None);
    let target = |name: &str| {
        let ids = serde_json::from_value(golden.json["responses"][format!("{name}_ids")].clone()).unwrap();
        let reference = floats(&golden.tensor(&format!("{name}_ref_logps")));
        Target { continuation: Continuation::Tokens(ids), reference: Some(reference) }
    };
    let system = golden.json["prompt"].as_str().unwrap().split(" USER:").next().unwrap();
    TrainExample {
        prompt: Prompt::about(&scene, golden.json["question"].as_str().unwrap()).with_system(system),
        chosen: target("chosen"),
        rejected: Some(target("rejected")),
    }
}

fn step(examples: Vec<TrainExample>, step: u64, learning_rate: f64) -> TrainStep {
    TrainStep { examples, step, learning_rate, max_grad_norm: Some(1.0) }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_steps_of_dpo_equal_autograd_and_adamw() {
    for family in ["llava", "video_llava"] {
        let golden = Golden::read(family);
        let reference = &golden.json["adamw_5_steps"];
        let mut config = LlavaConfig::new(golden.model());
        config.training.weight_decay = reference["weight_decay"].as_f64().unwrap();
        let policy = config.load().unwrap();
        let objective = Arc::new(Dpo { beta: golden.json["dpo"]["beta"].as_f64().unwrap() });
        for index in 0..5 {
            let step = step(vec![example(&golden)], index as u64, reference["lr"].as_f64().unwrap());
            let report = policy.train_step(step, objective.clone()).await.unwrap();
            let loss = reference["losses_before_step"][index].as_f64().unwrap();
            let norm = reference["grad_norms_before_clip"][index].as_f64().unwrap();
            assert!((report.loss - loss).abs() < 1e-4, "{family} step {index}: {} {loss}", report.loss);
            assert!((report.grad_norm / norm - 1.0).abs() < 1e-4, "{family}: {} {norm}", report.grad_norm);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gradient_reaches_projector_and_tower() {
    let golden = Golden::read("llava");
    let mut config = LlavaConfig::new(golden.model());
    config.training = TrainingConfig { projector: true, tower: true, ..TrainingConfig::default() };
    let policy = config.load().unwrap();
    let objective = Arc::new(Dpo { beta: 0.1 });
    let report = policy.train_step(step(vec![example(&golden)], 0, 0.0), objective).await.unwrap();
    let norm = golden.json["grad_total_norm"].as_f64().unwrap();
    assert!((report.grad_norm / norm - 1.0).abs() < 1e-4, "{} {norm}", report.grad_norm);
}

#[tokio::test(flavor = "multi_thread")]
async fn accumulation_over_micro_batches_changes_nothing() {
    let golden = Golden::read("llava");
    let objective = Arc::new(Dpo { beta: 0.1 });
    let mut norms = Vec::new();
    for micro_batch in [1, 3] {
        let mut config = LlavaConfig::new(golden.model());
        config.training.micro_batch = micro_batch;
        let policy = config.load().unwrap();
        let mut short = example(&golden);
        short.chosen = Target {
            continuation: Continuation::Tokens(vec![397, 856, 2]),
            reference: Some(vec![-3.0, -4.0, -5.0]),
        };
        let examples = vec![example(&golden), short, example(&golden)];
        norms.push(policy.train_step(step(examples, 0, 0.0), objective.clone()).await.unwrap());
    }
    assert!((norms[0].loss - norms[1].loss).abs() < 1e-5);
    assert!((norms[0].grad_norm / norms[1].grad_norm - 1.0).abs() < 1e-4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_snapshot_continues_to_the_same_bytes() {
    let golden = Golden::read("llava");
    let objective = Arc::new(Dpo { beta: 0.1 });
    let dir = tempfile::tempdir().unwrap();
    let load = || LlavaConfig::new(golden.model()).load().unwrap();
    let (whole, first, second) = (load(), load(), load());
    for index in 0..4 {
        whole.train_step(step(vec![example(&golden)], index, 1e-3), objective.clone()).await.unwrap();
    }
    for index in 0..2 {
        first.train_step(step(vec![example(&golden)], index, 1e-3), objective.clone()).await.unwrap();
    }
    first.save(dir.path(), Snapshot::Training).await.unwrap();
    second.load(dir.path(), Snapshot::Training).await.unwrap();
    assert_eq!(first.fingerprint(), second.fingerprint());
    for index in 2..4 {
        second.train_step(step(vec![example(&golden)], index, 1e-3), objective.clone()).await.unwrap();
    }
    assert_eq!(whole.fingerprint(), second.fingerprint());
    assert_ne!(whole.fingerprint(), first.fingerprint());
}
