//! Checkpoints of LLaVA-NeXT with a Qwen2 decoder (LLaVA-OneVision, LLaVA-Video) against the numbers of
//! `tests/golden/llava_qwen.py`: pooling, newlines, time instruction, and towers inside and beside.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::path::Path;
use std::sync::Arc;

use isr_api::{CheckpointKind, Continuation, GenerateRequest, Policy, Sampling, ScoreRequest};
use isr_torch::{InspectConfig, TorchPolicyConfig, TrainingConfig, inspect};
use serde_json::{Value, json};
use support::{Dpo, Golden, example, floats, largest_difference, scene, step};

const CASES: [&str; 4] = ["grid", "frame", "one_token", "no_token"];
const TOWER: &str = "model.vision_tower.vision_tower.vision_model.";

fn golden(case: &str) -> Golden {
    Golden::read(&format!("llava_qwen_{case}"))
}

/// LLaVA's name of a tensor of `LlavaOnevisionForConditionalGeneration`.
fn original(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("vision_tower.") {
        return format!("{TOWER}{rest}");
    }
    let name = name.strip_prefix("language_model.").unwrap_or(name);
    let name = name.replace("multi_modal_projector.linear_1", "model.mm_projector.0");
    let name = name.replace("multi_modal_projector.linear_2", "model.mm_projector.2");
    name.replace("image_newline", "model.image_newline")
}

/// Writes the checkpoint of a golden as LLaVA-NeXT would have, but for the tower.
fn write_checkpoint(
    golden: &Golden,
    folder: &Path,
    rename: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let names = support::rename_tensors(&golden.model().join("model.safetensors"), folder, rename);
    std::fs::write(folder.join("config.json"), golden.json["config"].to_string()).unwrap();
    for file in ["tokenizer.json", "generation_config.json"] {
        std::fs::copy(golden.model().join(file), folder.join(file)).unwrap();
    }
    // The tokenizer of the text model has a template of its own, which knows no videos.
    let text = std::fs::read_to_string(golden.model().join("tokenizer_config.json")).unwrap();
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    settings["chat_template"] = json!("{% for m in messages %}{{ m['content'] }}{% endfor %}");
    std::fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
    names
}

/// Heads of 16 elements are not those that the tensors' shapes suggest.
fn say_heads(folder: &Path) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["vision_config"] = tower_config(2);
    std::fs::write(&path, config.to_string()).unwrap();
}

fn tower_config(layers: i64) -> Value {
    json!({
        "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 56, "image_size": 70,
        "num_hidden_layers": layers, "num_attention_heads": 2, "patch_size": 14,
    })
}

/// Logits, an answer, log-probs, loss and the norm of all gradients.
async fn numbers_equal(golden: &Golden, folder: &Path) {
    let policy = TorchPolicyConfig::new(folder).load().unwrap();
    let scene = scene(golden, None);
    let prompt = golden.question(&scene);
    let logits = policy.logits(prompt.clone()).await.unwrap();
    let visual = logits.token_ids.iter().filter(|id| **id == u32::MAX).count();
    assert_eq!(visual as u64, golden.json["visual_tokens"].as_u64().unwrap());
    let tail = floats(&golden.tensor("logits_tail"));
    let got = &logits.values[logits.values.len() - tail.len()..];
    assert!(largest_difference(got, &tail) < 1e-4, "{}", largest_difference(got, &tail));
    let sampling = Sampling::greedy(24);
    let request = GenerateRequest { prompt: prompt.clone(), sampling, n: 1, seed: 0 };
    let response = policy.generate(request).await.unwrap().remove(0);
    let expected: Vec<u32> = serde_json::from_value(golden.json["greedy_ids"].clone()).unwrap();
    assert_eq!(response.token_ids, expected);
    for name in ["chosen", "rejected"] {
        let continuations = vec![Continuation::Answer(golden.answer(name))];
        let scored = policy.score(ScoreRequest { prompt: prompt.clone(), continuations }).await.unwrap();
        let expected = floats(&golden.tensor(&format!("{name}_logps")));
        let difference = largest_difference(&scored[0].logprobs, &expected);
        assert!(difference < 1e-4, "{name}: {difference}");
    }
    let mut config = TorchPolicyConfig::new(folder);
    config.training = TrainingConfig { projector: true, tower: true, ..TrainingConfig::default() };
    let policy = config.load().unwrap();
    let step = step(vec![example(golden)], 0, 0.0);
    let report = policy.train_step(step, Arc::new(Dpo { beta: 0.1 })).await.unwrap();
    let loss = golden.json["loss"].as_f64().unwrap();
    assert!((report.loss - loss).abs() < 1e-4, "{} {loss}", report.loss);
    let norms = golden.json["grad_norms"].as_object().unwrap().values();
    let norm = norms.map(|norm| norm.as_f64().unwrap().powi(2)).sum::<f64>().sqrt();
    assert!((report.grad_norm / norm - 1.0).abs() < 1e-4, "{} {norm}", report.grad_norm);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_place_of_newlines_gives_the_reference_codes_numbers() {
    for case in CASES {
        let golden = golden(case);
        let dir = tempfile::tempdir().unwrap();
        let (folder, saved) = (dir.path().join("model"), dir.path().join("saved"));
        let names = write_checkpoint(&golden, &folder, |name| Some(original(name)));
        say_heads(&folder);
        numbers_equal(&golden, &folder).await;
        // What is saved has LLaVA's names, and gives the same.
        let policy = TorchPolicyConfig::new(&folder).load().unwrap();
        std::fs::create_dir(&saved).unwrap();
        policy.save(&saved, CheckpointKind::Model).await.unwrap();
        let kept = |name: &str| Some(name.to_owned());
        let again = support::rename_tensors(&saved.join("model.safetensors"), &dir.path().join("x"), kept);
        assert_eq!(names, again);
        numbers_equal(&golden, &saved).await;
    }
}

/// A tower beside has a text model, a pooling head and one layer more than is run.
#[tokio::test(flavor = "multi_thread")]
async fn a_tower_beside_is_run_without_its_last_layer() {
    let golden = golden("grid");
    let dir = tempfile::tempdir().unwrap();
    let (folder, tower) = (dir.path().join("model"), dir.path().join("siglip-so400m-patch14-384"));
    write_checkpoint(&golden, &folder, |name| Some(original(name)).filter(|name| !name.starts_with(TOWER)));
    let of_tower =
        |name: &str| name.strip_prefix("vision_tower.").map(|rest| format!("vision_model.{rest}"));
    let more = |name: &str| match name {
        "language_model.model.norm.weight" => Some("text_model.final_layer_norm.weight".to_owned()),
        "image_newline" => Some("vision_model.head.layernorm.weight".to_owned()),
        _ => {
            let rest = name.strip_prefix("vision_tower.encoder.layers.0.")?;
            Some(format!("vision_model.encoder.layers.2.{rest}"))
        }
    };
    let weights = golden.model().join("model.safetensors");
    let parts = [dir.path().join("a"), dir.path().join("b")];
    support::rename_tensors(&weights, &parts[0], of_tower);
    support::rename_tensors(&weights, &parts[1], more);
    let files = parts.map(|part| part.join("model.safetensors"));
    support::join_tensors(&files, &tower, |name| Some(name.to_owned()));
    let config = json!({ "model_type": "siglip", "vision_config": tower_config(3) });
    std::fs::write(tower.join("config.json"), config.to_string()).unwrap();
    numbers_equal(&golden, &folder).await;
    let saved = tempfile::tempdir().unwrap();
    let policy = TorchPolicyConfig::new(&folder).load().unwrap();
    policy.save(saved.path(), CheckpointKind::Model).await.unwrap();
    numbers_equal(&golden, saved.path()).await;
}

#[test]
fn inspect_counts_newlines() {
    let counts = CASES.map(|case| {
        let golden = golden(case);
        let dir = tempfile::tempdir().unwrap();
        write_checkpoint(&golden, dir.path(), |name| Some(original(name)));
        let given = InspectConfig {
            frames: 5,
            size: [84, 60],
            batch: 1,
            tokens: 10,
            precision: isr_torch::Precision::Float32,
            verify: false,
            processes: 1,
            shard: isr_torch::ShardConfig::None,
            quantization: None,
        };
        let found = inspect(dir.path(), &given).unwrap();
        assert!(found.chat.unwrap().template.contains("qwen_1_5"));
        found.visual_tokens
    });
    // Five frames of 2 x 2 and 3 x 3 features.
    assert_eq!(counts, [5 * 2 * 3, 5 * 5, 5 * 9 + 1, 5 * 9]);
}
