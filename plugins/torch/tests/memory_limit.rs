//! A request that does not fit into memory fails with the numbers and the key to change; the others are answered. In a
//! process of its own, whose address space is limited once the model is loaded.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::process::Command;
use std::sync::Arc;

use futures::future::join_all;
use isr_api::{Continuation, GenerateRequest, Policy, Prompt, Sampling, Target, TrainExample};
use isr_torch::{DecodingConfig, NewModelConfig, TorchPolicyConfig};
use support::{Dpo, step};

const TEST: &str = "what_does_not_fit_fails_alone";
const MODEL: &str = "ISR_TEST_MEMORY";

/// Limits the address space to what is used now, and some more.
fn leave(mib: u64) {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let used = text.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let used: u64 = used.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = format!("--as={}:", (used + mib * 1024) * 1024);
    let process = std::process::id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap().success());
}

fn request(index: u64, words: usize, n: usize, tokens: usize) -> GenerateRequest {
    let prompt = Prompt::text("what moves ".repeat(words));
    let sampling = Sampling { max_new_tokens: tokens, ..Sampling::default() };
    GenerateRequest { prompt, sampling, n, seed: index }
}

async fn in_little_memory(model: &str) {
    for decoding in [DecodingConfig::Fused, DecodingConfig::Reproducible] {
        let config = TorchPolicyConfig {
            decoding,
            batch: Some(64),
            device: "cpu".to_owned(),
            threads: 1,
            ..TorchPolicyConfig::new(model)
        };
        let policy = config.load().unwrap();
        let small = |index: u64| policy.generate(request(index, 3, 1, 12));
        let mut alone = Vec::new();
        for index in 0..6 {
            alone.push(small(index).await.unwrap());
        }
        // 48 answers behind 2,400 tokens of 16 KiB are 1.8 GiB.
        let large = || policy.generate(request(9, 800, 48, 4));
        leave(700);
        let (together, refused) = futures::join!(join_all((0..6).map(small)), large());
        let refused = refused.unwrap_err().to_string();
        for part in ["not enough memory while", "can't allocate memory", "lower policy.batch (it is 64)"] {
            assert!(refused.contains(part), "{decoding:?}: {refused}");
        }
        assert!(!refused.contains('\n'), "{refused}");
        for (together, alone) in together.into_iter().zip(&alone) {
            assert_eq!(together.unwrap()[0].token_ids, alone[0].token_ids, "{decoding:?}");
        }
        let answer = |tokens: [u32; 2]| Target {
            continuation: Continuation::Tokens(tokens.to_vec()),
            reference: Some(vec![-1.0; 2]),
        };
        let prompt = Prompt::text("what moves ".repeat(2000));
        let examples =
            (0..4).map(|_| TrainExample::new(prompt.clone(), answer([5, 6]), Some(answer([7, 8]))));
        let dpo = Arc::new(Dpo { beta: 0.1 });
        let refused = policy.train_step(step(examples.collect(), 0, 1e-3), dpo).await;
        let refused = refused.unwrap_err().to_string();
        for part in ["not enough memory in a training step", "lower policy.training.micro_batch_tokens"] {
            assert!(refused.contains(part), "{decoding:?}: {refused}");
        }
        let process = std::process::id().to_string();
        Command::new("prlimit").args(["--pid", &process, "--as=unlimited:"]).status().unwrap();
        assert_eq!(small(0).await.unwrap()[0].token_ids, alone[0][0].token_ids, "the engine goes on");
        println!("held in {decoding:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_fails_alone() {
    if let Ok(model) = std::env::var(MODEL) {
        return in_little_memory(&model).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let shape = NewModelConfig {
        hidden_size: 512,
        intermediate_size: 704,
        heads: 8,
        kv_heads: 8,
        context: 8192,
        ..NewModelConfig::default()
    };
    shape.create(folder.path(), &["what moves in the video?".to_owned()], 0).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture"]).env(MODEL, folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.matches("held in").count() == 2, "{text}");
}
