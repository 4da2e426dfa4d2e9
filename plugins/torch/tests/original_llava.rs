//! Checkpoints of the LLaVA repositories: their tensor names, towers inside and beside, prompts cut at
//! `<video>`, and LanguageBind's towers (goldens of the original code, see `tests/golden/README.md`).

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::path::Path;
use std::sync::Arc;

use isr_api::{
    BuildContext, CheckpointKind, Component, Continuation, Frames, GenerateRequest, Policy, Response,
    Sampling, ScoreRequest, TokenLogProbs, VisualFeatures,
};
use isr_torch::{Logits, TorchPolicyConfig, VisionTowerConfig};
use serde_json::{Value, json};
use support::{Golden, floats, largest_difference, scene};

/// LLaVA's name of a tensor of `LlavaForConditionalGeneration`.
fn original(name: &str, tower: &str, inner: &str) -> String {
    if let Some(rest) = name.strip_prefix("vision_tower.") {
        return format!("model.{tower}.{tower}.{inner}{rest}");
    }
    let name = name.strip_prefix("language_model.").unwrap_or(name);
    let name = name.replace("multi_modal_projector.linear_1", "model.mm_projector.0");
    name.replace("multi_modal_projector.linear_2", "model.mm_projector.2")
}

/// LLaVA's `config.json` around the decoder of `tiny_llava`.
fn llava_config(golden: &Golden) -> Value {
    let text = std::fs::read_to_string(golden.model().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str::<Value>(&text).unwrap()["text_config"].take();
    config["model_type"] = json!("llava_llama");
    config["architectures"] = json!(["LlavaLlamaForCausalLM"]);
    config["mm_hidden_size"] = json!(32);
    config["mm_projector_type"] = json!("mlp2x_gelu");
    config["mm_vision_select_layer"] = json!(-2);
    config["mm_vision_select_feature"] = json!("patch");
    config
}

fn write_config(folder: &Path, config: &Value) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn copy(golden: &Golden, folder: &Path, files: &[&str]) {
    for file in files {
        std::fs::copy(golden.model().join(file), folder.join(file)).unwrap();
    }
}

/// Logits, an answer and its log-probs.
async fn numbers(golden: &Golden, folder: &Path) -> (Logits, Response, TokenLogProbs) {
    let policy = TorchPolicyConfig::new(folder).load().unwrap();
    let scene = scene(golden, None);
    let prompt = golden.question(&scene);
    let sampling = Sampling::greedy(24);
    let request = GenerateRequest { prompt: prompt.clone(), sampling, n: 1, seed: 0 };
    let response = policy.generate(request).await.unwrap().remove(0);
    let continuations = vec![Continuation::Answer(golden.answer("chosen"))];
    let scored = policy.score(ScoreRequest { prompt: prompt.clone(), continuations }).await.unwrap();
    (policy.logits(prompt).await.unwrap(), response, scored.into_iter().next().unwrap())
}

/// `tiny_llava` as the LLaVA repositories would have written it.
fn original_checkpoint(golden: &Golden, folder: &Path) -> Vec<String> {
    let mut config = llava_config(golden);
    config["mm_vision_tower"] = json!("openai/clip-vit-large-patch14");
    let text = std::fs::read_to_string(golden.model().join("config.json")).unwrap();
    // Heads do not show in the tensors' shapes.
    config["vision_config"] = serde_json::from_str::<Value>(&text).unwrap()["vision_config"].take();
    write_config(folder, &config);
    // No chat template: `v1` is the fallback.
    copy(golden, folder, &["tokenizer.json", "generation_config.json"]);
    let settings = std::fs::read_to_string(golden.model().join("tokenizer_config.json")).unwrap();
    let mut settings: Value = serde_json::from_str(&settings).unwrap();
    settings.as_object_mut().unwrap().remove("chat_template");
    std::fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
    let from = golden.model().join("model.safetensors");
    support::rename_tensors(&from, folder, |name| Some(original(name, "vision_tower", "vision_model.")))
}

/// The same weights under LLaVA's names and prompts give the numbers of `LlavaForConditionalGeneration`,
/// which other tests hold to transformers'; what is saved has LLaVA's names again.
#[tokio::test(flavor = "multi_thread")]
async fn llavas_names_and_v1_prompts_give_the_references_numbers() {
    let golden = Golden::read("llava");
    let dir = tempfile::tempdir().unwrap();
    let (folder, saved) = (dir.path().join("model"), dir.path().join("saved"));
    let names = original_checkpoint(&golden, &folder);
    let ours = numbers(&golden, &folder).await;

    // LLaVA tokenises what stands behind the video alone, and so begins it with a space.
    let spaced = dir.path().join("spaced");
    std::fs::create_dir_all(&spaced).unwrap();
    for file in std::fs::read_dir(golden.model()).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), spaced.join(file.file_name())).unwrap();
    }
    let template = std::fs::read_to_string(spaced.join("chat_template.jinja")).unwrap();
    let template = template.replace("<image>\n", "<image> \n");
    assert!(template.contains("<image> \n"));
    std::fs::write(spaced.join("chat_template.jinja"), template).unwrap();
    let theirs = numbers(&golden, &spaced).await;
    let visual = |id: &u32| if *id == 2000 { u32::MAX } else { *id };
    let ids: Vec<u32> = theirs.0.token_ids.iter().map(visual).collect();
    assert_eq!(ours.0.token_ids, ids);
    assert_eq!(ours.0.values, theirs.0.values);
    assert_eq!((&ours.1.token_ids, &ours.2), (&theirs.1.token_ids, &theirs.2));

    let policy = TorchPolicyConfig::new(&folder).load().unwrap();
    std::fs::create_dir(&saved).unwrap();
    policy.save(&saved, CheckpointKind::Model).await.unwrap();
    let kept = |name: &str| Some(name.to_owned());
    let again = support::rename_tensors(&saved.join("model.safetensors"), &dir.path().join("x"), kept);
    assert_eq!(names, again);
    assert_eq!(numbers(&golden, &saved).await.0, ours.0);
}

/// Frames `[frames, side, side, 3]` of one of a golden's clips.
fn clip(golden: &Golden, index: usize) -> Frames {
    let (count, side) = (number(golden, "num_frames"), number(golden, "image_size"));
    let size = count * side * side * 3;
    let rgb = golden.tensor("video_u8")[index * size..(index + 1) * size].to_vec();
    let timestamps = (0..count).map(|t| t as f64).collect();
    Frames::new(side as u32, side as u32, rgb, timestamps).unwrap()
}

fn number(golden: &Golden, key: &str) -> usize {
    golden.json["config"][key].as_u64().unwrap() as usize
}

async fn features(folder: &Path, frames: &Frames) -> VisualFeatures {
    let config = VisionTowerConfig { model: Some(folder.to_owned()), ..support::tower_config() };
    let encoder = config.build(&BuildContext::default()).unwrap();
    encoder.encode(frames).await.unwrap()
}

async fn features_equal(golden: &Golden, folder: &Path) {
    let expected = floats(&golden.tensor("features_patch"));
    let half = expected.len() / 2;
    for index in 0..2 {
        let features = features(folder, &clip(golden, index)).await;
        let patches = (number(golden, "image_size") / number(golden, "patch_size")).pow(2);
        assert_eq!(features.shape, [number(golden, "num_frames"), patches, 32]);
        let difference = largest_difference(&floats(&features.bytes), &expected[index * half..][..half]);
        assert!(difference < 1e-5, "{difference}");
    }
}

/// A checkpoint with a golden's tower: inside it, or in a folder beside it.
fn with_tower(llava: &Golden, golden: &Golden, dir: &Path, inside: bool) -> std::path::PathBuf {
    let (folder, tower) = (dir.join("model"), dir.join("LanguageBind_Video_merge"));
    let mut config = llava_config(llava);
    config["mm_video_tower"] = json!("LanguageBind/LanguageBind_Video_merge");
    config["vocab_size"] = json!(2048);
    let vision = json!({ "model_type": "LanguageBindVideo", "vision_config": golden.json["config"] });
    write_config(&tower, &vision);
    let sd = |name: &str| name.strip_prefix("sd.").map(str::to_owned);
    let beside = |name: &str| Some(format!("vision_model.{}", sd(name)?));
    support::rename_tensors(&golden.path(), &tower, beside);
    write_config(&folder, &config);
    copy(llava, &folder, &["tokenizer.json", "tokenizer_config.json", "generation_config.json"]);
    let mut files = vec![llava.model().join("model.safetensors")];
    if inside {
        files.push(golden.path());
    }
    support::join_tensors(&files, &folder, |name| match sd(name) {
        Some(rest) => Some(format!("model.video_tower.video_tower.{rest}")),
        None if name.starts_with("language_model.") || name.starts_with("multi_modal_projector.") => {
            Some(original(name, "", ""))
        }
        None => None,
    });
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn languagebind_towers_give_the_original_codes_features() {
    let llava = Golden::read("llava");
    for name in ["languagebind_video", "languagebind_video_quickgelu_4f", "languagebind_image"] {
        let golden = Golden::read(name);
        for inside in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let folder = with_tower(&llava, &golden, dir.path(), inside);
            features_equal(&golden, &folder).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_from_a_saved_checkpoint_that_took_its_tower_from_beside() {
    let (llava, golden) = (Golden::read("llava"), Golden::read("languagebind_video"));
    let dir = tempfile::tempdir().unwrap();
    let folder = with_tower(&llava, &golden, dir.path(), false);
    let policy = TorchPolicyConfig::new(&folder).load().unwrap();
    let frames = Arc::new(clip(&golden, 0));
    let scene = isr_api::VideoInput { video: "v".into(), frames, features: None };
    let ask =
        || GenerateRequest { prompt: llava.question(&scene), sampling: Sampling::greedy(8), n: 1, seed: 0 };
    let before = policy.generate(ask()).await.unwrap();
    let saved = tempfile::tempdir().unwrap();
    policy.save(saved.path(), CheckpointKind::Model).await.unwrap();
    features_equal(&golden, saved.path()).await;
    let after = TorchPolicyConfig::new(saved.path()).load().unwrap().generate(ask()).await.unwrap();
    assert_eq!(before[0].token_ids, after[0].token_ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_that_is_nowhere_is_named() {
    let golden = Golden::read("llava");
    let dir = tempfile::tempdir().unwrap();
    let folder = with_tower(&golden, &Golden::read("languagebind_video"), dir.path(), false);
    std::fs::remove_dir_all(dir.path().join("LanguageBind_Video_merge")).unwrap();
    let error = TorchPolicyConfig::new(&folder).load().err().unwrap().to_string();
    assert!(error.contains("LanguageBind_Video_merge") && error.contains("config.json"), "{error}");
}
