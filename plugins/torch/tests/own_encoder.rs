//! The encoder that a policy shares its tower with is the separate encoder of the same checkpoint, whatever training
//! and loading do to the policy.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::sync::Arc;

use isr_api::{BuildContext, CheckpointKind, Component, Policy, VideoEncoder, VisualFeatures};
use isr_torch::{
    LoraConfig, PrecisionConfig, TorchPolicy, TorchPolicyConfig, TrainingConfig, VisionTowerConfig,
};
use support::{Dpo, FAMILIES, Golden, example, step};

fn separate(golden: &Golden, precision: PrecisionConfig) -> Arc<dyn VideoEncoder> {
    let config = VisionTowerConfig { model: Some(golden.model()), precision, ..support::tower_config() };
    config.build(&BuildContext::default()).unwrap()
}

fn policy(golden: &Golden, training: TrainingConfig) -> TorchPolicy {
    let device = "cpu".to_owned();
    TorchPolicyConfig { training, device, ..TorchPolicyConfig::new(golden.model()) }.load().unwrap()
}

async fn train(policy: &TorchPolicy, golden: &Golden, at: u64) {
    policy.train_step(step(vec![example(golden)], at, 1e-2), Arc::new(Dpo { beta: 0.1 })).await.unwrap();
}

async fn is_same(own: &Arc<dyn VideoEncoder>, golden: &Golden, expected: &VisualFeatures) {
    // The features carry the fingerprint.
    assert_eq!(&own.encode(&golden.frames()).await.unwrap(), expected);
    assert_eq!(own.fingerprint(), expected.encoder);
}

#[tokio::test(flavor = "multi_thread")]
async fn features_and_fingerprint_are_those_of_the_separate_encoder() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        for precision in [PrecisionConfig::Float32, PrecisionConfig::Bfloat16] {
            let separate = separate(&golden, precision);
            let config = TorchPolicyConfig { precision, ..TorchPolicyConfig::new(golden.model()) };
            let policy = TorchPolicyConfig { device: "cpu".to_owned(), ..config }.load().unwrap();
            let own = policy.encoder().unwrap();
            is_same(&own, &golden, &separate.encode(&golden.frames()).await.unwrap()).await;
            assert_eq!(own.device_key(), separate.device_key());
            assert!(Arc::ptr_eq(&own, &policy.encoder().unwrap()), "there is one encoder");
        }
    }
}

/// The tower is frozen, trained with or without the decoder, or has an adapter.
#[tokio::test(flavor = "multi_thread")]
async fn features_stay_those_of_the_starting_checkpoint() {
    let trained = TrainingConfig { projector: true, tower: true, ..TrainingConfig::default() };
    for family in ["llava", "qwen3_vl"] {
        let golden = Golden::read(family);
        let expected = separate(&golden, PrecisionConfig::Float32).encode(&golden.frames()).await.unwrap();
        for training in [
            TrainingConfig::default(),
            trained.clone(),
            TrainingConfig { skip_decoder: true, ..trained.clone() },
            TrainingConfig { lora: Some(LoraConfig::default()), ..trained.clone() },
        ] {
            let changes = training.tower && training.lora.is_none();
            let (first, second) = (policy(&golden, training.clone()), policy(&golden, training.clone()));
            let own = first.encoder().unwrap();
            for at in 0..2 {
                train(&first, &golden, at).await;
            }
            is_same(&own, &golden, &expected).await;
            is_same(&first.encoder().unwrap(), &golden, &expected).await;
            // A run that resumes: the policy is built from the starting checkpoint, and the encoder requested.
            let dir = tempfile::tempdir().unwrap();
            first.save(dir.path(), CheckpointKind::TrainerState).await.unwrap();
            let resumed = second.encoder().unwrap();
            second.load(dir.path(), CheckpointKind::TrainerState).await.unwrap();
            assert_eq!(second.fingerprint(), first.fingerprint());
            is_same(&resumed, &golden, &expected).await;
            // One that asks too late is told so, unless the tower is still the original.
            let late = policy(&golden, training);
            late.load(dir.path(), CheckpointKind::TrainerState).await.unwrap();
            assert_eq!(late.encoder().is_none(), changes, "{family}");
        }
    }
}

/// Training goes on to the same bits whether or not an encoder shares the tower.
#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_leaves_training_as_it_is() {
    let golden = Golden::read("llava");
    for tower in [false, true] {
        let training = TrainingConfig { tower, ..TrainingConfig::default() };
        let (with, without) = (policy(&golden, training.clone()), policy(&golden, training));
        let own = with.encoder().unwrap();
        for at in 0..3 {
            let _ = own.encode(&golden.frames()).await.unwrap();
            train(&with, &golden, at).await;
            train(&without, &golden, at).await;
        }
        assert_eq!(with.fingerprint(), without.fingerprint());
    }
}
