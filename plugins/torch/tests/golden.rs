//! Numbers of transformers 5.23.0 (see `tests/golden/README.md` in the repository's root), for a random
//! tiny checkpoint of each family.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use isr_api::{
    BuildContext, CheckpointKind, Component, Continuation, FeatureType, GenerateRequest, Policy, Sampling,
    ScoreRequest, VisualFeatures,
};
use isr_torch::{
    InspectConfig, Precision, PrecisionConfig, ShardConfig, TorchPolicyConfig, VisionTowerConfig, inspect,
};
use support::{FAMILIES, GOLDENS, Golden, floats, largest_difference, scene};

#[tokio::test(flavor = "multi_thread")]
async fn greedy_tokens_equal_the_reference() {
    for family in GOLDENS {
        let golden = Golden::read(family);
        let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
        let scene = scene(&golden, None);
        let request = GenerateRequest {
            prompt: golden.question(&scene),
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
    for family in GOLDENS {
        let golden = Golden::read(family);
        let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
        let scene = scene(&golden, None);
        for name in ["chosen", "rejected"] {
            let answer = Continuation::Answer(golden.answer(name));
            let request = ScoreRequest { prompt: golden.question(&scene), continuations: vec![answer] };
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
async fn logits_equal_the_reference() {
    for family in &GOLDENS[2..] {
        let golden = Golden::read(family);
        let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
        let logits = policy.logits(golden.question(&scene(&golden, None))).await.unwrap();
        let ids: Vec<u32> = serde_json::from_value(golden.json["input_ids"].clone()).unwrap();
        assert_eq!(logits.token_ids, ids, "{family}");
        let tail = floats(&golden.tensor("logits_tail"));
        let got = &logits.values[logits.values.len() - tail.len()..];
        let difference = largest_difference(got, &tail);
        assert!(difference < 1e-4, "{family}: {difference}");
    }
}

/// Feature `[steps, tokens, width]` as the goldens' hidden states and projections say.
fn expected_features(golden: &Golden, family: &str, shape: [usize; 3]) -> Vec<f32> {
    let [frames, tokens, width] = shape;
    if family.starts_with("qwen") {
        let deep = (0..).map(|level| format!("deepstack_{level}")).take_while(|name| golden.has(name));
        let names = std::iter::once("projected".to_owned()).chain(deep);
        let parts: Vec<Vec<f32>> = names.map(|name| floats(&golden.tensor(&name))).collect();
        let part = width / parts.len();
        let row = |row: usize| parts.iter().flat_map(move |all| all[row * part..(row + 1) * part].to_vec());
        return (0..frames * tokens).flat_map(row).collect();
    }
    if golden.has("shuffled") {
        return floats(&golden.tensor("shuffled"));
    }
    let all = floats(&golden.tensor("vision_selected"));
    // The golden tensor keeps the class token; `llava` and `llava_next_video` drop it.
    let per_frame = all.len() / frames;
    if family != "llava_next_video" {
        let skip = per_frame - tokens * width;
        return all.chunks(per_frame).flat_map(|frame| &frame[skip..]).copied().collect();
    }
    let config = std::fs::read_to_string(golden.model().join("config.json")).unwrap();
    let is_max = serde_json::from_str::<serde_json::Value>(&config).unwrap()["spatial_pool_mode"] == "max";
    // Each feature stands for a square of two by two of the sixteen patches.
    let pooled = |frame: &[f32]| -> Vec<f32> {
        let at = |row: usize, column: usize, i: usize| frame[(1 + row * 4 + column) * width + i];
        let cell = |cell: usize, i: usize| {
            let (row, column) = (cell / 2 * 2, cell % 2 * 2);
            let square = [(row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1)];
            let values = square.map(|(row, column)| at(row, column, i));
            match is_max {
                true => values.into_iter().fold(f32::MIN, f32::max),
                false => values.iter().sum::<f32>() / 4.0,
            }
        };
        (0..4)
            .flat_map(|place| (0..width).map(move |i| (place, i)))
            .map(|(place, i)| cell(place, i))
            .collect()
    };
    all.chunks(per_frame).flat_map(pooled).collect()
}

fn values(features: &VisualFeatures) -> Vec<f32> {
    assert_eq!(features.dtype, FeatureType::F32);
    floats(&features.bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn visual_features_equal_the_reference() {
    for family in GOLDENS {
        let golden = Golden::read(family);
        let config = VisionTowerConfig { model: Some(golden.model()), ..support::tower_config() };
        let encoder = config.build(&BuildContext::default()).unwrap();
        let features = encoder.encode(&golden.frames()).await.unwrap();
        let expected = expected_features(&golden, family, features.shape);
        let difference = largest_difference(&values(&features), &expected);
        assert!(difference < 1e-4, "{family}: {difference}");
        // The policy gives the same answers from the encoder's features as from its own tower's.
        let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
        let scene = scene(&golden, Some(features));
        let request = GenerateRequest {
            prompt: golden.question(&scene),
            sampling: Sampling::greedy(24),
            n: 1,
            seed: 0,
        };
        let response = policy.generate(request).await.unwrap().remove(0);
        let expected: Vec<u32> = serde_json::from_value(golden.json["greedy_ids"].clone()).unwrap();
        assert_eq!(response.token_ids, expected, "{family}");
    }
}

/// A prompt of the reference has its visual token once for each feature and newline.
#[test]
fn inspect_counts_the_visual_tokens_of_the_reference() {
    for family in GOLDENS {
        let golden = Golden::read(family);
        let frames = golden.frames();
        let given = InspectConfig {
            frames: frames.len() as u32,
            size: [frames.width, frames.height],
            batch: 1,
            tokens: 1,
            precision: Precision::Float32,
            verify: false,
            processes: 1,
            shard: ShardConfig::None,
            quantization: None,
        };
        let ids: Vec<u32> = serde_json::from_value(golden.json["input_ids"].clone()).unwrap();
        let count = |id: &u32| ids.iter().filter(|other| *other == id).count() as u64;
        let found = inspect(&golden.model(), &given).unwrap();
        assert_eq!(Some(found.visual_tokens), ids.iter().map(count).max(), "{family}");
        assert!(found.chat.is_some() && found.parameters > 100_000, "{family}: {:?}", found.chat_error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_questions_at_once_are_answered_as_the_reference_does() {
    for family in GOLDENS {
        let golden = Golden::read(family);
        let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
        for index in 0..2 {
            let batch = &golden.json["batch2"];
            let mut frames = golden.frames();
            let seed = batch["video_seeds"][index].as_i64().unwrap();
            frames.rgb = support::pseudo_video(frames.len() as u32, frames.height, frames.width, seed).rgb;
            let scene = isr_api::VideoInput { frames: std::sync::Arc::new(frames), ..scene(&golden, None) };
            let question = golden.said(batch["prompts"][index].as_str().unwrap());
            let request = GenerateRequest {
                prompt: golden.prompt(&scene, &question),
                sampling: Sampling::greedy(24),
                n: 1,
                seed: 0,
            };
            let response = policy.generate(request).await.unwrap().remove(0);
            let expected: Vec<u32> = serde_json::from_value(batch["greedy_ids"][index].clone()).unwrap();
            assert_eq!(response.token_ids, expected, "{family} {index}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn judge_probabilities_equal_the_reference() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
        let scene = scene(&golden, None);
        for order in golden.json["judge"]["orders"].as_array().unwrap() {
            let question = golden.said(order["prompt"].as_str().unwrap());
            let prompt = golden.prompt(&scene, &question);
            let continuations = ["A", "B"].map(|choice| Continuation::Prefix(choice.to_owned())).to_vec();
            let scored = policy.score(ScoreRequest { prompt, continuations }).await.unwrap();
            assert_eq!(u64::from(scored[0].token_ids[0]), order["id_A"].as_u64().unwrap());
            assert_eq!(u64::from(scored[1].token_ids[0]), order["id_B"].as_u64().unwrap());
            let got = scored[0].sum() - scored[1].sum();
            let expected = order["logit_A"].as_f64().unwrap() - order["logit_B"].as_f64().unwrap();
            assert!((got - expected).abs() < 1e-4, "{family}: {got} {expected}");
        }
    }
}

/// Names that older and newer versions of transformers gave the same tensors.
#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_with_other_versions_names_give_the_same_numbers() {
    let hub = |name: &str| {
        let tower =
            ["vision_tower.", "video_tower.", "image_tower."].into_iter().find(|t| name.starts_with(t));
        match tower {
            Some(tower) => name.replacen(tower, &format!("{tower}vision_model."), 1),
            None => name.replacen("model.visual.", "visual.", 1),
        }
    };
    let new = |name: &str| match name.strip_prefix("language_model.") {
        Some(rest) if rest.starts_with("lm_head") => rest.to_owned(),
        Some(rest) => rest.replacen("model.", "model.language_model.", 1),
        None if name.starts_with("model.layers.") => name.replacen("model.", "model.language_model.", 1),
        None if name.starts_with("model.") || name.starts_with("lm_head") => name.to_owned(),
        None => format!("model.{name}"),
    };
    for family in FAMILIES {
        let golden = Golden::read(family);
        for rename in [&hub as &dyn Fn(&str) -> String, &new] {
            let dir = tempfile::tempdir().unwrap();
            for file in std::fs::read_dir(golden.model()).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
            }
            let weights = golden.model().join("model.safetensors");
            support::rename_tensors(&weights, dir.path(), |name| Some(rename(name)));
            let policy = TorchPolicyConfig::new(dir.path()).load().unwrap();
            let given = TorchPolicyConfig::new(golden.model()).load().unwrap();
            assert_eq!(policy.fingerprint(), given.fingerprint(), "{family}");
        }
    }
}

/// What is saved has the names that transformers 5 writes.
#[tokio::test(flavor = "multi_thread")]
async fn saved_checkpoints_have_transformers_names() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let saved = tempfile::tempdir().unwrap();
        let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
        policy.save(saved.path(), CheckpointKind::Model).await.unwrap();
        let bytes = |folder: &std::path::Path| std::fs::read(folder.join("model.safetensors")).unwrap();
        let (ours, theirs) = (bytes(saved.path()), bytes(&golden.model()));
        let ours = safetensors::SafeTensors::deserialize(&ours).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&theirs).unwrap();
        let (mut names, mut expected) = (ours.names(), theirs.names());
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "{family}");
        for name in names {
            assert_eq!(ours.tensor(name).unwrap(), theirs.tensor(name).unwrap(), "{family} {name}");
        }
    }
}

/// Types meet in every part of every family, and rounding stays rounding.
#[tokio::test(flavor = "multi_thread")]
async fn bfloat16_stays_near_float32() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let prompt = golden.question(&scene(&golden, None));
        let single =
            TorchPolicyConfig::new(golden.model()).load().unwrap().logits(prompt.clone()).await.unwrap();
        let config = TorchPolicyConfig {
            precision: PrecisionConfig::Bfloat16,
            ..TorchPolicyConfig::new(golden.model())
        };
        let policy = config.load().unwrap();
        let half = policy.logits(prompt.clone()).await.unwrap();
        let differences = single.values.iter().zip(&half.values).map(|(a, b)| f64::from((a - b).abs()));
        let mean = differences.sum::<f64>() / single.values.len() as f64;
        // Logits have a standard deviation of about 4.
        assert!(mean > 1e-4 && mean < 0.2, "{family}: {mean}");
        let sampling = Sampling::greedy(4);
        let answer = policy.generate(GenerateRequest { prompt, sampling, n: 1, seed: 0 }).await.unwrap();
        assert!(answer[0].logprobs.iter().all(|logprob| logprob.is_finite()), "{family}");
    }
}
