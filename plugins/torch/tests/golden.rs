//! Numbers of transformers 5.23.0 (see `tests/golden/README.md` in the repository's root), for a random
//! tiny checkpoint of each family.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use isr_core::registry::{BuildContext, Component};
use isr_core::{Continuation, GenerateRequest, Policy, Prompt, Sampling, ScoreRequest};
use isr_torch::{ClipConfig, LlavaConfig};
use support::{Golden, floats, largest_difference, scene};

const FAMILIES: [&str; 2] = ["llava", "video_llava"];
const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant \
                      gives helpful, detailed, and polite answers to the user's questions.";

fn prompt(golden: &Golden, scene: &isr_core::Scene) -> Prompt {
    Prompt::about(scene, golden.json["question"].as_str().unwrap()).with_system(SYSTEM)
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_tokens_equal_the_reference() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let policy = LlavaConfig::new(golden.model()).load().unwrap();
        let scene = scene(&golden, None);
        let request = GenerateRequest {
            prompt: prompt(&golden, &scene),
            sampling: Sampling::greedy(24),
            n: 1,
            seed: 0,
        };
        let response = policy.generate(request).await.unwrap().remove(0);
        let expected: Vec<u32> = serde_json::from_value(golden.json["greedy_ids"].clone()).unwrap();
        assert_eq!(response.token_ids, expected, "{family}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probs_of_given_answers_equal_the_reference() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let policy = LlavaConfig::new(golden.model()).load().unwrap();
        let scene = scene(&golden, None);
        for name in ["chosen", "rejected"] {
            let text = golden.json["responses"][format!("{name}_text")].as_str().unwrap();
            let answer = Continuation::Answer(text.trim_end_matches("</s>").to_owned());
            let request = ScoreRequest { prompt: prompt(&golden, &scene), continuations: vec![answer] };
            let scored = policy.score(request).await.unwrap().remove(0);
            let ids: Vec<u32> =
                serde_json::from_value(golden.json["responses"][format!("{name}_ids")].clone()).unwrap();
            assert_eq!(scored.token_ids, ids, "{family} {name}");
            let expected = floats(&golden.tensor(&format!("{name}_logps")));
            let difference = largest_difference(&scored.logprobs, &expected);
            assert!(difference < 1e-4, "{family} {name}: {difference}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn visual_features_equal_the_reference() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let config = ClipConfig { model: Some(golden.model()), ..support::clip() };
        let encoder = config.build(&BuildContext::default()).unwrap();
        let features = encoder.encode(&golden.frames()).await.unwrap();
        let got: Vec<f32> =
            features.bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        let (frames, [_, tokens, dim]) = (features.shape[0], features.shape);
        let all = floats(&golden.tensor("vision_selected"));
        // The golden tensor keeps the class token; `llava` drops it.
        let per_frame = all.len() / frames;
        let skip = per_frame - tokens * dim;
        let expected: Vec<f32> = all.chunks(per_frame).flat_map(|frame| &frame[skip..]).copied().collect();
        let difference = largest_difference(&got, &expected);
        assert!(difference < 1e-4, "{family}: {difference}");
        // The policy gives the same answers from the encoder's features as from its own tower's.
        let policy = LlavaConfig::new(golden.model()).load().unwrap();
        let scene = scene(&golden, Some(features));
        let request = GenerateRequest {
            prompt: prompt(&golden, &scene),
            sampling: Sampling::greedy(24),
            n: 1,
            seed: 0,
        };
        let response = policy.generate(request).await.unwrap().remove(0);
        let expected: Vec<u32> = serde_json::from_value(golden.json["greedy_ids"].clone()).unwrap();
        assert_eq!(response.token_ids, expected, "{family}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn judge_probabilities_equal_the_reference() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let policy = LlavaConfig::new(golden.model()).load().unwrap();
        let scene = scene(&golden, None);
        for order in golden.json["judge"]["orders"].as_array().unwrap() {
            let text = order["prompt"].as_str().unwrap();
            let question = text.split(">\n").nth(1).unwrap().strip_suffix(" ASSISTANT:").unwrap();
            let prompt = Prompt::about(&scene, question).with_system(SYSTEM);
            let continuations = ["A", "B"].map(|choice| Continuation::Opening(choice.to_owned())).to_vec();
            let scored = policy.score(ScoreRequest { prompt, continuations }).await.unwrap();
            assert_eq!(u64::from(scored[0].token_ids[0]), order["id_A"].as_u64().unwrap());
            assert_eq!(u64::from(scored[1].token_ids[0]), order["id_B"].as_u64().unwrap());
            let got = scored[0].sum() - scored[1].sum();
            let expected = order["logit_A"].as_f64().unwrap() - order["logit_B"].as_f64().unwrap();
            assert!((got - expected).abs() < 1e-4, "{family}: {got} {expected}");
        }
    }
}
