//! The decoding step of a GPU, on a CPU: the same answers as the reproducible step.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::sync::Arc;

use futures::future::join_all;
use isr_api::{GenerateRequest, Policy, Prompt, Response, Sampling, VideoInput};
use isr_torch::{DecodingConfig, TorchPolicy, TorchPolicyConfig};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use support::{Golden, pseudo_video};

/// Requests of many kinds: with a video (of three lengths, or the same one again) or without, of one to three answers,
/// ragged prompts and limits, every way of sampling.
fn request(index: usize) -> GenerateRequest {
    let frames = Arc::new(pseudo_video(2 + (index as u32 % 3), 60, 60, index as i64));
    let scene = VideoInput { video: format!("{index}.mp4").into(), frames, features: None };
    let question = "what happens then? ".repeat(1 + index % 5);
    let prompt = if index % 7 == 6 { Prompt::text(question) } else { Prompt::about(&scene, question) };
    let plain = Sampling { max_new_tokens: 1 + index * 3, ..Sampling::default() };
    let sampling = match index % 5 {
        0 => Sampling { temperature: 0.0, ..plain },
        1 => Sampling { temperature: 0.7, top_p: 0.9, ..plain },
        2 => Sampling { top_k: 20, ..plain },
        _ => plain,
    };
    GenerateRequest { prompt, sampling, n: 1 + index % 3, seed: index as u64 }
}

fn policy(golden: &Golden, batch: usize, decoding: DecodingConfig) -> TorchPolicy {
    TorchPolicyConfig { batch: Some(batch), decoding, ..TorchPolicyConfig::new(golden.model()) }
        .load()
        .unwrap()
}

async fn answers(policy: &TorchPolicy, count: usize) -> Vec<Vec<Response>> {
    let all = join_all((0..count).map(|index| policy.generate(request(index)))).await;
    all.into_iter().map(Result::unwrap).collect()
}

fn assert_same(fused: &[Vec<Response>], reproducible: &[Vec<Response>], what: &str) {
    for (index, (fused, reproducible)) in fused.iter().zip(reproducible).enumerate() {
        for (fused, reproducible) in fused.iter().zip(reproducible) {
            assert_eq!(fused.token_ids, reproducible.token_ids, "{what}, request {index}");
            assert_eq!(fused.text, reproducible.text);
            assert_eq!(fused.finish_reason, reproducible.finish_reason);
            for (fused, reproducible) in fused.logprobs.iter().zip(&reproducible.logprobs) {
                // Rounding grows with the logits of unlikely tokens; the processor's kernels differ (1.1e-5 on an AMD EPYC).
                let tolerance = 2e-5_f32.max(2e-6 * reproducible.abs());
                let difference = (fused - reproducible).abs();
                assert!(difference < tolerance, "{what}, request {index}: {fused} for {reproducible}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fused_steps_give_the_answers_of_reproducible_steps() {
    for family in support::FAMILIES {
        let golden = Golden::read(family);
        // All numbers of rows for one family, one for the others.
        let (count, batches) = if family == "llava" { (12, vec![1, 8, 64]) } else { (7, vec![8]) };
        let wanted = answers(&policy(&golden, 16, DecodingConfig::Reproducible), count).await;
        for batch in batches {
            let fused = answers(&policy(&golden, batch, DecodingConfig::Fused), count).await;
            assert_same(&fused, &wanted, &format!("{family}, {batch} rows"));
        }
    }
}

/// Rows that end at a stop string leave the batch at different times, and others take their places.
#[tokio::test(flavor = "multi_thread")]
async fn stop_strings_end_answers_in_a_window() {
    let golden = Golden::read("llava");
    let stopped = |index: usize| {
        let mut request = request(index);
        request.sampling.stop = vec!["a".to_owned(), "e".to_owned()];
        request.sampling.max_new_tokens = 40;
        request
    };
    let ask = async |decoding| -> Vec<Vec<Response>> {
        let policy = policy(&golden, 8, decoding);
        let all = join_all((0..10).map(|index| policy.generate(stopped(index)))).await;
        all.into_iter().map(Result::unwrap).collect()
    };
    assert_same(&ask(DecodingConfig::Fused).await, &ask(DecodingConfig::Reproducible).await, "llava");
}

/// Request, and the milliseconds after which it comes.
fn arrivals() -> impl Strategy<Value = Vec<(usize, u64, u8, usize)>> {
    // Kind of prompt and sampling, arrival, whether a stop string ends it, tokens.
    let arrival = (0_usize..40, 0_u64..60, 0_u8..3, 1_usize..40);
    prop::collection::vec(arrival, 1..24)
}

/// Answers depend on nothing but their request: ragged lengths, ends at any step, requests that come while others are
/// decoded, more of them than there are rows.
#[test]
fn any_arrivals_give_the_answers_of_reproducible_steps() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (family, cases) in [("llava", 8), ("qwen3_vl", 4), ("qwen3_vl_moe", 4)] {
        let golden = Golden::read(family);
        let reproducible = policy(&golden, 16, DecodingConfig::Reproducible);
        let fused = [1, 8, 64].map(|batch| (batch, policy(&golden, batch, DecodingConfig::Fused)));
        let ask = |policy: &TorchPolicy, arrivals: &[(usize, u64, u8, usize)], late: bool| {
            let one = async |&(kind, after, stop, tokens): &(usize, u64, u8, usize)| {
                if late {
                    tokio::time::sleep(std::time::Duration::from_millis(after)).await;
                }
                let mut request = request(kind);
                request.sampling.max_new_tokens = tokens;
                if stop == 0 {
                    request.sampling.stop = vec!["a".to_owned(), "e".to_owned()];
                }
                policy.generate(request).await.unwrap()
            };
            runtime.block_on(join_all(arrivals.iter().map(one)))
        };
        let settings = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        // Always the same cases: a number drawn at the border of two tokens may fall to either side by rounding.
        let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let outcome = TestRunner::new_with_rng(settings, random).run(&arrivals(), |arrivals| {
            let wanted = ask(&reproducible, &arrivals, false);
            for (batch, fused) in &fused {
                assert_same(&ask(fused, &arrivals, true), &wanted, &format!("{family}, {batch} rows"));
            }
            Ok(())
        });
        outcome.unwrap();
    }
}
