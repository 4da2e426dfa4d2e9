//! DPO and AdamW against torch's autograd and `torch.optim.AdamW` (goldens of transformers 5.23.0).

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::sync::Arc;

use isr_api::{CheckpointKind, Continuation, Fingerprint, Policy, Target};
use isr_torch::{
    OptimizerConfig, OptimizerStateConfig, PrecisionConfig, TorchPolicyConfig, TrainingConfig,
};
use support::{Dpo, Golden, example, step};

#[tokio::test(flavor = "multi_thread")]
async fn five_steps_of_dpo_equal_autograd_and_adamw() {
    for family in support::GOLDENS {
        let golden = Golden::read(family);
        let reference = &golden.json["adamw_5_steps"];
        let mut config = TorchPolicyConfig::new(golden.model());
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
    let mut config = TorchPolicyConfig::new(golden.model());
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
        let mut config = TorchPolicyConfig::new(golden.model());
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
    let mut ends = Vec::new();
    for (optimizer, optimizer_state) in [
        (OptimizerConfig::Adamw, OptimizerStateConfig::Device),
        (OptimizerConfig::Adamw8bit, OptimizerStateConfig::Device),
        (OptimizerConfig::Adamw, OptimizerStateConfig::Cpu),
    ] {
        ends.push(continued(optimizer, optimizer_state).await);
    }
    assert_ne!(ends[0], ends[1], "8-bit moments are others");
    assert_eq!(ends[0], ends[2], "on a CPU, the host is the device");
}

/// Trains with and without a break in between; returns the fingerprint at the end.
async fn continued(optimizer: OptimizerConfig, optimizer_state: OptimizerStateConfig) -> Fingerprint {
    let golden = Golden::read("llava");
    let objective = Arc::new(Dpo { beta: 0.1 });
    let dir = tempfile::tempdir().unwrap();
    let mut config = TorchPolicyConfig::new(golden.model());
    config.training = TrainingConfig { optimizer, optimizer_state, ..TrainingConfig::default() };
    let load = || config.load().unwrap();
    let (whole, first, second) = (load(), load(), load());
    for index in 0..4 {
        whole.train_step(step(vec![example(&golden)], index, 1e-3), objective.clone()).await.unwrap();
    }
    for index in 0..2 {
        first.train_step(step(vec![example(&golden)], index, 1e-3), objective.clone()).await.unwrap();
    }
    first.save(dir.path(), CheckpointKind::TrainerState).await.unwrap();
    second.load(dir.path(), CheckpointKind::TrainerState).await.unwrap();
    assert_eq!(first.fingerprint(), second.fingerprint());
    for index in 2..4 {
        second.train_step(step(vec![example(&golden)], index, 1e-3), objective.clone()).await.unwrap();
    }
    assert_eq!(whole.fingerprint(), second.fingerprint());
    assert_ne!(whole.fingerprint(), first.fingerprint());
    whole.fingerprint()
}

/// What `save` computes while it writes is what is computed from the weights alone, before and after.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_written_with_the_fingerprint_of_its_weights() {
    for family in ["llava", "qwen3_vl", "qwen3_vl_moe"] {
        let golden = Golden::read(family);
        let mut config = TorchPolicyConfig { shard_gb: 1e-4, ..TorchPolicyConfig::new(golden.model()) };
        config.training = TrainingConfig { projector: true, tower: true, ..TrainingConfig::default() };
        let (saved, twin) = (config.load().unwrap(), config.load().unwrap());
        for policy in [&saved, &twin] {
            let objective = Arc::new(Dpo { beta: 0.1 });
            policy.train_step(step(vec![example(&golden)], 0, 1e-3), objective).await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        saved.save(dir.path(), CheckpointKind::Model).await.unwrap();
        assert!(std::fs::read_dir(dir.path()).unwrap().count() > 8, "several shards");
        let loaded = TorchPolicyConfig { verify: true, ..TorchPolicyConfig::new(dir.path()) };
        let all = [saved.fingerprint(), twin.fingerprint(), loaded.load().unwrap().fingerprint()];
        assert!(all.iter().all(|one| *one == all[0]), "{family}: {all:?}");
        let again = tempfile::tempdir().unwrap();
        saved.save(again.path(), CheckpointKind::Model).await.unwrap();
        let manifest = |dir: &tempfile::TempDir| std::fs::read(dir.path().join("manifest.json")).unwrap();
        assert_eq!(manifest(&dir), manifest(&again), "{family}: with the fingerprint known");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gradient_checkpointing_changes_no_bit() {
    // Qwen3-VL adds features of its tower behind several layers.
    for family in ["video_llava", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"] {
        let golden = Golden::read(family);
        let objective = Arc::new(Dpo { beta: 0.1 });
        let mut outcomes = Vec::new();
        for gradient_checkpointing in [false, true] {
            let mut config = TorchPolicyConfig::new(golden.model());
            config.threads = 1;
            config.training = TrainingConfig {
                projector: true,
                tower: true,
                gradient_checkpointing,
                ..TrainingConfig::default()
            };
            let policy = config.load().unwrap();
            let mut reports = Vec::new();
            for index in 0..2 {
                let step = step(vec![example(&golden)], index, 1e-3);
                reports.push(policy.train_step(step, objective.clone()).await.unwrap());
            }
            outcomes.push((reports, policy.fingerprint()));
        }
        assert_eq!(outcomes[0], outcomes[1], "{family}: reports, and all weights to the bit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bfloat16_follows_float32() {
    let golden = Golden::read("llava");
    let objective = Arc::new(Dpo { beta: 0.1 });
    let mut losses = Vec::new();
    for (precision, gradient_checkpointing) in [
        (PrecisionConfig::Float32, false),
        (PrecisionConfig::Bfloat16, false),
        (PrecisionConfig::Bfloat16, true),
    ] {
        let mut config = TorchPolicyConfig { precision, ..TorchPolicyConfig::new(golden.model()) };
        config.training.gradient_checkpointing = gradient_checkpointing;
        let policy = config.load().unwrap();
        let mut own = Vec::new();
        for index in 0..5 {
            let step = step(vec![example(&golden)], index, 1e-4);
            own.push(policy.train_step(step, objective.clone()).await.unwrap().loss);
        }
        losses.push(own);
    }
    // Sums of log-probs are near 300, and bfloat16 has 8 bits.
    assert!((losses[1][0] - losses[0][0]).abs() < 0.25, "{losses:?}");
    assert_eq!(losses[1], losses[2]);
    for own in &losses {
        assert!(own.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
    }
    let fall = |own: &[f64]| own[0] - own[4];
    assert!((fall(&losses[1]) / fall(&losses[0]) - 1.0).abs() < 0.2, "{losses:?}");
}
