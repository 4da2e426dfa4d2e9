//! The built-in policy and encoder keep the contracts that plugins must keep.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::sync::Arc;

use isr_api::{BuildContext, Component};
use isr_torch::{TorchPolicyConfig, VisionTowerConfig};
use support::Golden;

#[tokio::test(flavor = "multi_thread")]
async fn the_encoder_keeps_the_contract() {
    let model = Golden::read("llava").model();
    let config = VisionTowerConfig { model: Some(model), ..support::tower_config() };
    let encoder = config.build(&BuildContext::default()).unwrap();
    assert_eq!(isr_testing::encoder(encoder).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_keeps_the_contract() {
    let mut config = TorchPolicyConfig::new(Golden::read("llava").model());
    config.batch = Some(8);
    config.threads = 1;
    assert_eq!(isr_testing::policy(Arc::new(config.load().unwrap())).await, []);
}
