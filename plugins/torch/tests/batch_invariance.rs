//! What is answered beside a request does not change a bit of its answer.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::sync::Arc;

use futures::future::join_all;
use isr_api::{
    Continuation, GenerateRequest, Policy, Prompt, Response, Sampling, ScoreRequest, VideoInput,
};
use isr_torch::TorchPolicyConfig;
use support::{Golden, largest_difference, pseudo_video};

fn request(index: usize) -> GenerateRequest {
    let frames = Arc::new(pseudo_video(2 + (index as u32 % 3), 60, 60, index as i64));
    let scene = VideoInput { video: format!("{index}.mp4").into(), frames, features: None };
    let question = "what happens then? ".repeat(1 + index % 5);
    let sampling = Sampling { max_new_tokens: 5 + index * 3, ..Sampling::default() };
    GenerateRequest { prompt: Prompt::about(&scene, question), sampling, n: 2, seed: index as u64 }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_their_neighbours() {
    // One with positions like text, one with positions and features of every kind, one with experts.
    for family in ["llava", "qwen3_vl", "qwen3_vl_moe"] {
        answers_alone_and_together(family).await;
    }
}

async fn answers_alone_and_together(family: &str) {
    let golden = Golden::read(family);
    let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
    let mut alone: Vec<Vec<Response>> = Vec::new();
    for index in 0..14 {
        alone.push(policy.generate(request(index)).await.unwrap());
    }
    let together = join_all((0..14).map(|index| policy.generate(request(index)))).await;
    let together: Vec<_> = together.into_iter().map(Result::unwrap).collect();
    assert_eq!(alone, together);
    let late_first = join_all((0..14).rev().map(|index| policy.generate(request(index)))).await;
    let late_first: Vec<_> = late_first.into_iter().rev().map(Result::unwrap).collect();
    assert_eq!(alone, late_first);
}

#[tokio::test(flavor = "multi_thread")]
async fn scoring_a_response_returns_the_recorded_log_probs() {
    for family in support::FAMILIES {
        let policy = TorchPolicyConfig::new(Golden::read(family).model()).load().unwrap();
        for index in 0..6 {
            let request = request(index);
            let prompt = request.prompt.clone();
            for response in policy.generate(request).await.unwrap() {
                let continuations = vec![Continuation::Tokens(response.token_ids.clone())];
                let scored =
                    policy.score(ScoreRequest { prompt: prompt.clone(), continuations }).await.unwrap();
                let difference = largest_difference(&scored[0].logprobs, &response.logprobs);
                assert!(difference < 1e-4, "{family}: {difference}");
            }
        }
    }
}

/// Answers of a request attend together until the last has ended: those that go on are not disturbed by those
/// that have.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_end_early_leave_the_others_as_they_are() {
    for family in support::FAMILIES {
        let policy = TorchPolicyConfig::new(Golden::read(family).model()).load().unwrap();
        let whole = GenerateRequest { n: 5, ..request(9) };
        let responses = policy.generate(whole.clone()).await.unwrap();
        // A stop string that some of the texts hold.
        let letters = 'a'..='z';
        let holding =
            |letter: &char| responses.iter().filter(|response| response.text.contains(*letter)).count();
        let stop = letters
            .filter(|letter| (1..5).contains(&holding(letter)))
            .min_by_key(|letter| holding(letter).abs_diff(2));
        let stop = stop.unwrap().to_string();
        let mut cut = whole;
        cut.sampling.stop = vec![stop.clone()];
        let stopped = policy.generate(cut).await.unwrap();
        let mut ended = 0;
        for (response, whole) in stopped.iter().zip(&responses) {
            let tokens = response.token_ids.len();
            ended += usize::from(tokens < whole.token_ids.len());
            assert_eq!(response.token_ids, whole.token_ids[..tokens], "{family}");
            assert_eq!(response.logprobs, whole.logprobs[..tokens], "{family}");
            if !whole.text.contains(&stop) {
                assert_eq!(response, whole, "{family}");
            }
        }
        assert!((1..5).contains(&ended), "{family}: {ended} of 5 ended early");
    }
}

/// Answers and log-probs of several prompts about the same videos, one after the other.
async fn asked_in_turn(policy: &dyn Policy, scenes: &[VideoInput]) -> Vec<(Vec<Response>, Vec<f32>)> {
    let mut all = Vec::new();
    for question in ["what happens then?", "describe", "which is better?"] {
        for scene in scenes {
            let prompt = Prompt::about(scene, question);
            let sampling = Sampling { max_new_tokens: 6, ..Sampling::default() };
            let request = GenerateRequest { prompt: prompt.clone(), sampling, n: 2, seed: 5 };
            let responses = policy.generate(request).await.unwrap();
            let tokens = |response: &Response| Continuation::Tokens(response.token_ids.clone());
            let continuations = responses.iter().map(tokens).collect();
            let scored = policy.score(ScoreRequest { prompt, continuations }).await.unwrap();
            all.push((responses, scored.into_iter().flat_map(|scored| scored.logprobs).collect()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_of_a_video_before_changes_no_bit() {
    for family in support::FAMILIES {
        let model = Golden::read(family).model();
        let scenes: Vec<VideoInput> = (0..3)
            .map(|index| VideoInput {
                video: format!("{index}.mp4").into(),
                frames: Arc::new(pseudo_video(4, 60, 60, index)),
                features: None,
            })
            .collect();
        let kept = TorchPolicyConfig::new(&model).load().unwrap();
        let forgotten = TorchPolicyConfig { prefix_cache_mb: Some(0), ..TorchPolicyConfig::new(&model) }
            .load()
            .unwrap();
        let (one, other) = (asked_in_turn(&kept, &scenes).await, asked_in_turn(&forgotten, &scenes).await);
        assert_eq!(one, other, "{family}");
        assert_ne!(one[0].1, one[1].1, "{family}: the videos differ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_that_do_not_fit_are_the_samples_fault() {
    let policy = TorchPolicyConfig::new(Golden::read("llava").model()).load().unwrap();
    let mut request = request(0);
    request.prompt = Prompt::text("word ".repeat(6000));
    let error = policy.generate(request).await.unwrap_err();
    assert!(matches!(error, isr_api::ComponentError::BadInput(_)), "{error:?}");
    assert!(error.to_string().contains("context holds 4096"), "{error}");
    let placeholder = Prompt::text("what is <image> here?");
    let score = ScoreRequest { prompt: placeholder, continuations: vec![] };
    // A user's text is text, whatever it spells.
    assert_eq!(policy.score(score).await.unwrap(), []);
}
