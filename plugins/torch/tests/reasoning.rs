//! Reasoning of a checkpoint's responses. The goldens' weights are random, so the markers are texts that their prompts end with
//! and that they write.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use isr_api::{
    Continuation, FinishReason, GenerateRequest, Policy, Progress, Prompt, ReasoningFormat,
    ReasoningMarkers, Response, Sampling, ScoreRequest,
};
use isr_torch::{DecodingConfig, ReasoningConfig, TorchPolicy, TorchPolicyConfig};
use support::Golden;
use tokio::sync::mpsc::unbounded_channel;

/// Qwen's prompts end with `<|im_start|>assistant` and a newline.
const OPEN: &str = "assistant";

fn policy(close: &str, decoding: DecodingConfig) -> TorchPolicy {
    let mut config = TorchPolicyConfig::new(Golden::read("qwen3_vl").model());
    config.decoding = decoding;
    let markers = ReasoningMarkers { open: OPEN.to_owned(), close: close.to_owned() };
    config.reasoning = ReasoningConfig::Markers(markers);
    config.load().unwrap()
}

fn request(max_new_tokens: usize) -> GenerateRequest {
    let sampling = Sampling { max_new_tokens, temperature: 1.5, ..Sampling::default() };
    GenerateRequest { prompt: Prompt::text("what happens?"), sampling, n: 4, seed: 3 }
}

/// Two letters that stand in the middle of a response's text, and not before.
fn marker(response: &Response) -> String {
    let characters: Vec<char> = response.text.chars().collect();
    let pairs = characters.windows(2).filter(|pair| pair.iter().all(char::is_ascii_alphabetic));
    let texts: Vec<String> = pairs.map(|pair| pair.iter().collect()).collect();
    texts[texts.len() / 2].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_keep_their_tokens_and_their_answers_stand_alone() {
    for decoding in [DecodingConfig::Reproducible, DecodingConfig::Fused] {
        let mut config = TorchPolicyConfig::new(Golden::read("qwen3_vl").model());
        config.decoding = decoding;
        let plain = config.load().unwrap();
        assert_eq!(plain.reasoning_format(), None);
        let whole = plain.generate(request(60)).await.unwrap();
        assert!(whole.iter().all(|response| response.reasoning.is_none()));
        let close = marker(&whole[0]);
        let policy = policy(&close, decoding);
        let format = policy.reasoning_format().unwrap();
        assert!(format.opened && format.markers.close == close);
        let (progress, mut pieces) = unbounded_channel();
        let responses = policy.generate_streaming(request(60), progress).await.unwrap();
        let mut told = vec![<[String; 2]>::default(); 4];
        while let Ok(piece) = pieces.try_recv() {
            match piece {
                Progress::Reasoning { answer, text } => told[answer][0] += &text,
                Progress::Text { answer, text } => told[answer][1] += &text,
                _ => {}
            }
        }
        assert!(!responses[0].is_unanswered(), "{close:?} {:?}", whole[0].text);
        for ((whole, response), told) in whole.iter().zip(&responses).zip(told) {
            assert_eq!((&response.token_ids, &response.logprobs), (&whole.token_ids, &whole.logprobs));
            let split = format.split(&whole.text).unwrap();
            let reasoning = response.reasoning.as_ref().unwrap();
            assert_eq!((&*reasoning.text, &*response.text), (split.reasoning, split.answer.unwrap_or("")));
            assert_eq!(told, [reasoning.text.clone(), response.text.clone()]);
            let cut = whole.finish_reason == FinishReason::Length && split.answer.is_none();
            if cut {
                assert!(response.is_unanswered() && response.answer_tokens() == 0);
            }
        }
        // Whatever is part of the text, the tokens are scored as they were sampled.
        let tokens = Continuation::Tokens(responses[0].token_ids.clone());
        let asked = ScoreRequest { prompt: request(1).prompt, continuations: vec![tokens] };
        let score = policy.score(asked).await.unwrap().remove(0);
        let close = score.logprobs.iter().zip(&responses[0].logprobs).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close && score.token_ids == responses[0].token_ids);
    }
}

/// The choices of a judge stand behind a closed reasoning, whose log-prob is no part of theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_choice_is_scored_behind_an_empty_reasoning() {
    let plain = TorchPolicyConfig::new(Golden::read("qwen3_vl").model()).load().unwrap();
    let policy = policy("</x>", DecodingConfig::Reproducible);
    let prompt = || Prompt::text("A or B?");
    let score = async |policy: &TorchPolicy, continuation: Continuation| {
        let asked = ScoreRequest { prompt: prompt(), continuations: vec![continuation] };
        policy.score(asked).await.unwrap().remove(0)
    };
    let choice = score(&policy, Continuation::Prefix("B".to_owned())).await;
    let whole = score(&plain, Continuation::Prefix("\n</x>\n\nB".to_owned())).await;
    assert_eq!(choice.token_ids[..], whole.token_ids[whole.token_ids.len() - choice.token_ids.len()..]);
    assert!(choice.token_ids.len() < whole.token_ids.len() && !choice.token_ids.is_empty());
    let behind = &whole.logprobs[whole.logprobs.len() - choice.logprobs.len()..];
    assert!(choice.logprobs.iter().zip(behind).all(|(a, b)| (a - b).abs() < 1e-4), "{choice:?} {whole:?}");
    let alone = score(&plain, Continuation::Prefix("B".to_owned())).await;
    assert_ne!(alone.logprobs, choice.logprobs, "it has seen the closed reasoning");
    let _: ReasoningFormat = policy.reasoning_format().unwrap();
}
