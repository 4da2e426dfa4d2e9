//! Weights in 4 bits: quantised at load, and read as bitsandbytes has saved them (`nf4.safetensors`, made by
//! `tests/golden/nf4.py`).

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{CheckpointKind, GenerateRequest, Policy, Sampling, ScoreRequest, StepReport, Target};
use isr_torch::{DecodingConfig, LoraConfig, Quantization, TorchPolicy, TorchPolicyConfig, TrainingConfig};
use safetensors::SafeTensors;
use serde_json::Value;
use support::{Dpo, Golden, copied, example, largest_difference, step};

fn golden_file() -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/nf4.safetensors"))
        .unwrap()
}

/// Tensors by name, as dtype, shape and bytes.
type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(bytes: &[u8]) -> Tensors {
    let own = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    SafeTensors::deserialize(bytes).unwrap().tensors().into_iter().map(own).collect()
}

/// The tensors of bitsandbytes' checkpoint, without those that are not quantised.
fn stored() -> Tensors {
    let all = tensors(&golden_file()).into_iter();
    all.filter_map(|(name, tensor)| Some((name.strip_prefix("checkpoint.")?.to_owned(), tensor))).collect()
}

/// The formula of QLoRA, written down apart from the crate's own.
fn decoded(stored: &Tensors, name: &str, exact: Option<&[f32]>) -> Vec<f32> {
    let floats = |part: &str| support::floats(&stored[&format!("{name}.{part}")].2);
    let state = &stored[&format!("{name}.quant_state.bitsandbytes__nf4")].2;
    let state: Value = serde_json::from_slice(state).unwrap();
    let (scales, map, values) = (floats("nested_absmax"), floats("nested_quant_map"), floats("quant_map"));
    let offset = state["nested_offset"].as_f64().unwrap() as f32;
    let magnitudes = stored[&format!("{name}.absmax")].2.iter().enumerate();
    let magnitudes: Vec<f32> =
        magnitudes.map(|(at, &code)| map[usize::from(code)] * scales[at / 256] + offset).collect();
    let largest = |block: &[f32]| block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let magnitudes = exact.map_or(magnitudes, |weight| weight.chunks(64).map(largest).collect());
    let codes = stored[name].2.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    codes.enumerate().map(|(at, code)| values[usize::from(code)] * magnitudes[at / 64]).collect()
}

/// Writes a copy of a model with some tensors replaced.
fn written(golden: &Golden, folder: &Path, replaced: impl Fn(&str) -> bool, with: Tensors) -> PathBuf {
    copied(&golden.model(), folder);
    let mut all = tensors(&std::fs::read(golden.model().join("model.safetensors")).unwrap());
    all.retain(|name, _| !replaced(name));
    all.extend(with);
    let views = all.iter().map(|(name, (dtype, shape, bytes))| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    folder.to_owned()
}

/// The model with the decoded weights of those that `chosen` picks; with the magnitudes of the weights themselves if `exact`.
fn dense(golden: &Golden, folder: &Path, exact: bool, chosen: impl Fn(&str) -> bool) -> PathBuf {
    let stored = stored();
    let base = tensors(&std::fs::read(golden.model().join("model.safetensors")).unwrap());
    let new: Tensors = base
        .into_iter()
        .filter(|(name, _)| chosen(name) && stored.contains_key(name))
        .map(|(name, (dtype, shape, bytes))| {
            let weight = exact.then(|| support::floats(&bytes));
            let values =
                decoded(&stored, &name, weight.as_deref()).into_iter().flat_map(f32::to_le_bytes).collect();
            (name, (dtype, shape, values))
        })
        .collect();
    written(golden, folder, |_| false, new)
}

/// The model as transformers and bitsandbytes save it.
fn quantised(golden: &Golden, folder: &Path) -> PathBuf {
    let stored = stored();
    let path = written(golden, folder, |name| stored.contains_key(name), stored.clone());
    let config = path.join("config.json");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    json["quantization_config"] = serde_json::json!({
        "load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true,
        "quant_method": "bitsandbytes",
    });
    std::fs::write(config, json.to_string()).unwrap();
    path
}

fn config(model: &Path, quantization: Option<Quantization>) -> TorchPolicyConfig {
    let lora = Some(LoraConfig { rank: 4, dora: true, ..LoraConfig::default() });
    let training = TrainingConfig { lora, projector: true, ..TrainingConfig::default() };
    TorchPolicyConfig { quantization, training, threads: 1, ..TorchPolicyConfig::new(model) }
}

async fn scores(policy: &TorchPolicy, golden: &Golden) -> Vec<f32> {
    let pair = example(golden);
    let continuations = vec![pair.chosen.continuation, pair.rejected.unwrap().continuation];
    let scored = policy.score(ScoreRequest { prompt: pair.prompt, continuations }).await.unwrap();
    [scored[0].logprobs.clone(), scored[1].logprobs.clone()].concat()
}

/// A target whose reference is another policy.
fn fixed(target: Target) -> Target {
    let reference = target.reference.map(|values| values.iter().map(|value| value * 1.1).collect());
    Target { reference, ..target }
}

async fn train(policy: &TorchPolicy, golden: &Golden) -> Vec<StepReport> {
    let mut reports = Vec::new();
    for index in 0..3 {
        let mut pair = example(golden);
        pair.chosen = fixed(pair.chosen);
        pair.rejected = pair.rejected.map(fixed);
        let step = step(vec![pair], index, 1e-3);
        reports.push(policy.train_step(step, Arc::new(Dpo { beta: 0.1 })).await.unwrap());
    }
    reports
}

/// Log-probs, losses, gradients, and what is trained are those of a float model with the decoded weights.
async fn compare(golden: &Golden, four_bits: TorchPolicyConfig, float: &Path) {
    let ours = four_bits.load().unwrap();
    let reference = config(float, None).load().unwrap();
    let far = largest_difference(&scores(&ours, golden).await, &scores(&reference, golden).await);
    assert!(far < 1e-4, "{far}");
    for checkpointing in [false, true] {
        let mut own = four_bits.clone();
        own.training.gradient_checkpointing = checkpointing;
        let (ours, reference) = (own.load().unwrap(), config(float, None).load().unwrap());
        let (reports, wanted) = (train(&ours, golden).await, train(&reference, golden).await);
        for (got, wanted) in reports.iter().zip(&wanted) {
            assert!((got.loss - wanted.loss).abs() < 1e-4, "{} {}", got.loss, wanted.loss);
            let ratio = got.grad_norm / wanted.grad_norm;
            assert!((ratio - 1.0).abs() < 1e-3 && got.grad_norm > 0.0, "{ratio}");
        }
    }
    let fused = TorchPolicyConfig { decoding: DecodingConfig::Fused, ..four_bits }.load().unwrap();
    let request = || GenerateRequest {
        prompt: example(golden).prompt,
        sampling: Sampling::greedy(12),
        n: 1,
        seed: 0,
    };
    let (one, other) =
        (fused.generate(request()).await.unwrap(), reference.generate(request()).await.unwrap());
    assert_eq!(one[0].token_ids, other[0].token_ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_bitsandbytes_computes_what_its_decoded_weights_do() {
    let (golden, out) = (Golden::read("llava"), tempfile::tempdir().unwrap());
    let model = quantised(&golden, &out.path().join("quantised"));
    let float = dense(&golden, &out.path().join("float"), false, |_| true);
    compare(&golden, config(&model, None), &float).await;
}

/// Codes are those of bitsandbytes for the same weights.
#[tokio::test(flavor = "multi_thread")]
async fn weights_quantised_at_load_are_those_of_bitsandbytes() {
    let (golden, out) = (Golden::read("llava"), tempfile::tempdir().unwrap());
    let float = dense(&golden, out.path(), true, |name| name.contains("language_model"));
    compare(&golden, config(&golden.model(), Some(Quantization::Nf4)), &float).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_adapters_are_trained_on_weights_in_4_bits() {
    let (golden, out) = (Golden::read("llava"), tempfile::tempdir().unwrap());
    let mut plain = config(&golden.model(), Some(Quantization::Nf4));
    plain.training.lora = None;
    let policy = plain.load().unwrap();
    assert!(scores(&policy, &golden).await.iter().all(|value| value.is_finite()));
    let step = step(vec![example(&golden)], 0, 1e-3);
    let error = policy.train_step(step, Arc::new(Dpo { beta: 0.1 })).await.unwrap_err().to_string();
    assert!(error.contains("4 bits") && error.contains("policy.training.lora"), "{error}");
    let error = policy.save(out.path(), CheckpointKind::Model).await.unwrap_err().to_string();
    assert!(error.contains("4 bits"), "{error}");
    // An adapter is saved alone, and goes on.
    let dir = out.path().join("adapter");
    std::fs::create_dir(&dir).unwrap();
    let first = config(&golden.model(), Some(Quantization::Nf4)).load().unwrap();
    train(&first, &golden).await;
    first.save(&dir, CheckpointKind::TrainerState).await.unwrap();
    let second = config(&golden.model(), Some(Quantization::Nf4)).load().unwrap();
    second.load(&dir, CheckpointKind::TrainerState).await.unwrap();
    assert_eq!(second.fingerprint(), first.fingerprint());
    let other = config(&golden.model(), None).load().unwrap();
    other.load(&dir, CheckpointKind::Model).await.unwrap();
    assert_ne!(other.fingerprint(), first.fingerprint(), "another base");
    let mut saved = config(&golden.model(), Some(Quantization::Nf4));
    saved.training.lora.as_mut().unwrap().modules_to_save = vec!["layers.0.mlp".to_owned()];
    let error = saved.load().err().unwrap().to_string();
    assert!(error.contains("4 bits"), "{error}");
}

#[test]
fn damaged_and_other_quantisations_are_refused_by_name() {
    let (golden, out) = (Golden::read("llava"), tempfile::tempdir().unwrap());
    let name = "language_model.model.layers.1.mlp.up_proj.weight";
    let state = format!("{name}.quant_state.bitsandbytes__nf4");
    let refused = |at: &str, change: &dyn Fn(&mut Tensors)| {
        let mut stored = stored();
        let known: Vec<String> = stored.keys().cloned().collect();
        change(&mut stored);
        let folder = out.path().join(at);
        let model = written(&golden, &folder, |name| known.contains(&name.to_owned()), stored);
        config(&model, None).load().err().unwrap().to_string()
    };
    let error = refused("a", &|stored| drop(stored.remove(&format!("{name}.nested_absmax"))));
    assert!(error.contains("up_proj.weight.nested_absmax is missing"), "{error}");
    let error = refused("b", &|stored| {
        let text = String::from_utf8(stored[&state].2.clone()).unwrap().replace("\"nf4\"", "\"fp4\"");
        stored.get_mut(&state).unwrap().2 = text.into_bytes();
    });
    assert!(error.contains("up_proj") && error.contains("fp4"), "{error}");
    let error = refused("c", &|stored| drop(stored.remove(&state)));
    assert!(error.contains("up_proj") && error.contains("quantised"), "{error}");
    let error = refused("d", &|stored| {
        let tensor = stored.get_mut(name).unwrap();
        tensor.2.truncate(100);
        tensor.1 = vec![100, 1];
    });
    assert!(error.contains("up_proj") && error.contains("100 bytes of codes"), "{error}");
}
