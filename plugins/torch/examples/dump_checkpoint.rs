//! Makes a small model, trains it a little, saves it, and writes what this crate computes with the saved
//! checkpoint: `dump.safetensors` (frames, token ids, logits) and `dump.json` (greedy answer, log-probs,
//! DPO loss and gradient norm); then puts an adapter on it, trains and saves that (`adapter/`), and writes
//! its logits (`adapter.safetensors`). `tests/python` compares all that with transformers and peft.
//!
//! `cargo run -p isr-torch --example dump_checkpoint -- OUT_DIR SEED`

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{
    CheckpointKind, ComponentError, Continuation, Frames, GenerateRequest, ObjectiveBatch, ObjectiveValue,
    Policy, PreferenceObjective, Prompt, Requirements, Sampling, Target, TrainExample, TrainStep,
    VideoInput, View,
};
use isr_torch::{
    LoraConfig, Modules, NewModelConfig, Targets, TorchPolicy, TorchPolicyConfig, TrainingConfig,
};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Mean over pairs of -log sigmoid(beta (chosen log-ratio - rejected log-ratio)), beta = 0.1.
struct Dpo;

impl PreferenceObjective for Dpo {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen, View::Rejected]).with_reference()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let (chosen, rejected) = (batch.view(View::Chosen)?, batch.view(View::Rejected)?);
        let (mut loss, mut up, mut down) = (0.0, Vec::new(), Vec::new());
        for pair in 0..batch.pairs() {
            let ratio = |view: &isr_api::ViewLogProbs| view.policy[pair] - view.reference[pair];
            let wrong = 1.0 / (1.0 + (0.1 * (ratio(chosen) - ratio(rejected))).exp());
            let share = 1.0 / batch.pairs() as f64;
            loss -= (1.0 - wrong).ln() * share;
            up.push(-0.1 * wrong * share);
            down.push(0.1 * wrong * share);
        }
        Ok(ObjectiveValue { loss, gradients: vec![up, down], metrics: Default::default() })
    }
}

fn scene(seed: u64) -> VideoInput {
    let value = |index: u64| ((index * 7 + (index >> 5) * (seed + 3) + (index >> 11) * 31) % 256) as u8;
    let rgb: Vec<u8> = (0..5 * 52 * 64 * 3).map(value).collect();
    let timestamps = (0..5).map(f64::from).collect();
    let frames = Arc::new(Frames { width: 64, height: 52, rgb, timestamps, duration: 5.0 });
    VideoInput { video: "dump".into(), frames, features: None }
}

async fn answers(policy: &TorchPolicy, prompt: &Prompt, seed: u64) -> Result<TrainExample, Box<dyn Error>> {
    let sampling = Sampling { max_new_tokens: 12, ..Sampling::default() };
    let request = GenerateRequest { prompt: prompt.clone(), sampling, n: 2, seed };
    let mut responses = policy.generate(request).await?.into_iter();
    let mut target = || {
        let response = responses.next().ok_or("an answer is missing")?;
        let continuation = Continuation::Tokens(response.token_ids);
        Ok::<_, Box<dyn Error>>(Target { continuation, reference: Some(response.logprobs) })
    };
    Ok(TrainExample::new(prompt.clone(), target()?, Some(target()?)))
}

fn ids(target: &Target) -> Vec<u32> {
    match &target.continuation {
        Continuation::Tokens(ids) => ids.clone(),
        _ => Vec::new(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(out), Some(seed)) = (arguments.next(), arguments.next()) else {
        return Err("usage: dump_checkpoint OUT_DIR SEED".into());
    };
    let (out, seed) = (PathBuf::from(out), seed.parse::<u64>()?);
    let corpus = ["what moves in the video?".to_owned(), "the red bar moves left.".to_owned()];
    let shape = NewModelConfig { layers: 3, vision_layers: 3, ..NewModelConfig::default() };
    shape.create(&out.join("new"), &corpus, seed)?;

    let prompt = Prompt::about(&scene(seed), "what moves in the video?");
    let mut config = TorchPolicyConfig::new(out.join("new"));
    config.training.projector = true;
    config.training.tower = true;
    // So that transformers reads shards and an index.
    config.shard_gb = 0.002;
    let policy = config.load()?;
    let objective = Arc::new(Dpo);
    for index in 0..4 {
        let examples = vec![answers(&policy, &prompt, index).await?];
        let step =
            TrainStep { examples, step: index, learning_rate: 1e-3, max_grad_norm: Some(1.0), seed: 0 };
        policy.train_step(step, objective.clone()).await?;
    }
    let checkpoint = out.join("checkpoint");
    std::fs::create_dir_all(&checkpoint)?;
    policy.save(&checkpoint, CheckpointKind::Model).await?;
    config.model = checkpoint;
    dump(&out, &config.load()?, &prompt, seed).await?;
    let plain = LoraConfig { rank: 4, rslora: true, ..LoraConfig::default() };
    let modules_to_save = ["lm_head", "embed_tokens", "linear_2"].map(str::to_owned).into();
    let all = LoraConfig {
        dora: true,
        targets: Targets::Pattern(r".*language_model.*_proj".to_owned()),
        exclude: Some(Modules::Names(vec!["k_proj".to_owned()])),
        rank_pattern: [(r"0\.mlp\.\w+".to_owned(), 2)].into(),
        alpha_pattern: [("q_proj".to_owned(), 5.0)].into(),
        modules_to_save,
        ..plain.clone()
    };
    adapt(&out, "adapter", plain, &config, &prompt).await?;
    adapt(&out, "adapter_all", all, &config, &prompt).await
}

/// Trains an adapter on the checkpoint, saves it, and writes what both compute.
async fn adapt(
    out: &Path,
    name: &str,
    lora: LoraConfig,
    config: &TorchPolicyConfig,
    prompt: &Prompt,
) -> Result<(), Box<dyn Error>> {
    let training = TrainingConfig { lora: Some(lora), ..TrainingConfig::default() };
    let policy = TorchPolicyConfig { training, ..config.clone() }.load()?;
    for index in 0..4 {
        let examples = vec![answers(&policy, prompt, index).await?];
        let step =
            TrainStep { examples, step: index, learning_rate: 1e-2, max_grad_norm: Some(1.0), seed: 0 };
        policy.train_step(step, Arc::new(Dpo)).await?;
    }
    let adapter = out.join(name);
    std::fs::create_dir_all(&adapter)?;
    policy.save(&adapter, CheckpointKind::Model).await?;
    let logits = policy.logits(prompt.clone()).await?;
    let values: Vec<u8> = logits.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (length, vocabulary) = (logits.token_ids.len(), logits.values.len() / logits.token_ids.len());
    let tensors = [("logits", TensorView::new(Dtype::F32, vec![length, vocabulary], &values)?)];
    Ok(safetensors::serialize_to_file(tensors, None, &out.join(format!("{name}.safetensors")))?)
}

async fn dump(out: &Path, policy: &TorchPolicy, prompt: &Prompt, seed: u64) -> Result<(), Box<dyn Error>> {
    let logits = policy.logits(prompt.clone()).await?;
    let sampling = Sampling::greedy(24);
    let request = GenerateRequest { prompt: prompt.clone(), sampling, n: 1, seed };
    let greedy = policy.generate(request).await?.remove(0);
    let mut example = answers(policy, prompt, 99).await?;
    let (chosen, rejected) = (ids(&example.chosen), ids(example.rejected.as_ref().ok_or("no pair")?));
    // A reference unlike the policy, so that the loss is not log 2.
    let shift = |target: &mut Target| {
        for value in target.reference.iter_mut().flatten() {
            *value *= 1.25;
        }
    };
    shift(&mut example.chosen);
    let reference = |target: &Target| target.reference.clone().unwrap_or_default();
    let references =
        [reference(&example.chosen), example.rejected.as_ref().map(reference).unwrap_or_default()];
    let step =
        TrainStep { examples: vec![example], step: 0, learning_rate: 0.0, max_grad_norm: None, seed: 0 };
    let report = policy.train_step(step, Arc::new(Dpo)).await?;
    let json = serde_json::json!({
        "greedy": greedy.token_ids, "logprobs": greedy.logprobs, "text": greedy.text,
        "chosen": chosen, "rejected": rejected, "references": references,
        "loss": report.loss, "grad_norm": report.grad_norm,
    });
    std::fs::write(out.join("dump.json"), serde_json::to_string_pretty(&json)?)?;
    let frames = scene(seed).frames;
    let tokens: Vec<u8> = logits.token_ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
    let values: Vec<u8> = logits.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (length, vocabulary) = (logits.token_ids.len(), logits.values.len() / logits.token_ids.len());
    let tensors = HashMap::from([
        ("frames", TensorView::new(Dtype::U8, vec![frames.len(), 52, 64, 3], &frames.rgb)?),
        ("input_ids", TensorView::new(Dtype::I64, vec![length], &tokens)?),
        ("logits", TensorView::new(Dtype::F32, vec![length, vocabulary], &values)?),
    ]);
    Ok(safetensors::serialize_to_file(tensors, None, &out.join("dump.safetensors"))?)
}
