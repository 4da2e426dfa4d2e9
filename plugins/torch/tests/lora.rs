//! Low-rank adapters against PEFT (goldens of peft 0.21.2), and what they must leave alone.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{
    BuildContext, CheckpointKind, Component, Policy, Prompt, ScoreRequest, StepReport, Target, TrainStep,
};
use isr_torch::{
    LoraConfig, PrecisionConfig, Targets, TorchPolicy, TorchPolicyConfig, TrainingConfig, merge,
};
use support::{Dpo, FAMILIES, Golden, copied, example, folder, step};

const SHARD: u64 = 5_000_000_000;

fn adapter(family: &str) -> PathBuf {
    folder().join(format!("{family}_lora_adapter"))
}

fn adapted(golden: &Golden, family: &str) -> TorchPolicyConfig {
    TorchPolicyConfig {
        adapter: Some(adapter(family)),
        threads: 1,
        ..TorchPolicyConfig::new(golden.model())
    }
}

fn with_lora(golden: &Golden, lora: LoraConfig) -> TorchPolicyConfig {
    let training = TrainingConfig { lora: Some(lora), ..TrainingConfig::default() };
    TorchPolicyConfig { training, threads: 1, ..TorchPolicyConfig::new(golden.model()) }
}

fn names(names: &[&str]) -> Targets {
    Targets::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Log-probs of the golden pair's answers.
async fn scores(policy: &TorchPolicy, golden: &Golden) -> [Vec<f32>; 2] {
    let pair = example(golden);
    let continuations = vec![pair.chosen.continuation, pair.rejected.unwrap().continuation];
    let prompt: Prompt = pair.prompt;
    let scored = policy.score(ScoreRequest { prompt, continuations }).await.unwrap();
    [scored[0].logprobs.clone(), scored[1].logprobs.clone()]
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}

fn difference(a: &[Vec<f32>; 2], b: &[Vec<f32>; 2]) -> f32 {
    a.iter().zip(b).map(|(a, b)| support::largest_difference(a, b)).fold(0.0, f32::max)
}

/// Some steps on the golden pair, whose reference is the base.
async fn train(policy: &TorchPolicy, golden: &Golden, steps: std::ops::Range<u64>) -> Vec<StepReport> {
    let base = TorchPolicyConfig { threads: 1, ..TorchPolicyConfig::new(golden.model()) }.load().unwrap();
    let [chosen, rejected] = scores(&base, golden).await;
    let mut reports = Vec::new();
    for index in steps {
        let mut pair = example(golden);
        pair.chosen.reference = Some(chosen.clone());
        pair.rejected = pair.rejected.map(|target| Target { reference: Some(rejected.clone()), ..target });
        let mut step = step(vec![pair], index, 1e-3);
        step.max_grad_norm = None;
        reports.push(policy.train_step(step, Arc::new(Dpo { beta: 0.1 })).await.unwrap());
    }
    reports
}

async fn save(policy: &TorchPolicy, folder: &Path, what: CheckpointKind) {
    std::fs::create_dir_all(folder).unwrap();
    policy.save(folder, what).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_of_peft_gives_pefts_numbers_and_trains_as_in_peft() {
    for family in FAMILIES {
        let golden = Golden::read(family);
        let expected = &golden.json["lora"];
        let policy = adapted(&golden, family).load().unwrap();
        let [chosen, rejected] = scores(&policy, &golden).await;
        for (got, key) in [(sum(&chosen), "chosen_sum_logp"), (sum(&rejected), "rejected_sum_logp")] {
            let expected = expected[key].as_f64().unwrap();
            // Sums of some 20 to 40 values.
            assert!((got - expected).abs() < 5e-4, "{family} {key}: {got} {expected}");
        }
        let reports = train(&policy, &golden, 0..3).await;
        for (report, loss) in reports.iter().zip(expected["losses_before_step"].as_array().unwrap()) {
            let loss = loss.as_f64().unwrap();
            assert!((report.loss - loss).abs() < 1e-4, "{family}: {} {loss}", report.loss);
        }
        let norms = expected["grad_norms"].as_object().unwrap().values();
        let norm = norms.map(|norm| norm.as_f64().unwrap().powi(2)).sum::<f64>().sqrt();
        let got = reports[0].grad_norm;
        assert!((got / norm - 1.0).abs() < 1e-4, "{family}: {got} {norm}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_adapter_changes_nothing_until_it_is_trained() {
    let golden = Golden::read("llava");
    let plain = TorchPolicyConfig { threads: 1, ..TorchPolicyConfig::new(golden.model()) }.load().unwrap();
    let policy = with_lora(&golden, LoraConfig::default()).load().unwrap();
    let before = scores(&plain, &golden).await;
    assert_eq!(scores(&policy, &golden).await, before);
    let losses: Vec<f64> = train(&policy, &golden, 0..4).await.iter().map(|report| report.loss).collect();
    assert!((losses[0] - f64::ln(2.0)).abs() < 1e-6, "{losses:?}");
    assert!(losses[3] < losses[0] - 0.05, "{losses:?}");
    assert!(difference(&scores(&policy, &golden).await, &before) > 1e-3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_seed_decides_a_new_adapter_unless_it_has_its_own() {
    let golden = Golden::read("llava");
    let print = |own, run: u64| {
        let config = with_lora(&golden, LoraConfig { seed: own, ..LoraConfig::default() });
        let cx = BuildContext { config: serde_json::json!({ "seed": run }) };
        config.build(&cx).unwrap().fingerprint()
    };
    assert_eq!(print(None, 1), print(None, 1));
    assert_ne!(print(None, 1), print(None, 2));
    assert_eq!(print(Some(1), 2), print(None, 1));
    assert_eq!(print(Some(1), 2), print(Some(1), 3));
}

/// The masks of a step follow its seed, which the loop derives from run seed, iteration and step, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn dropout_follows_the_seed_of_the_step() {
    let golden = Golden::read("llava");
    let lora = LoraConfig { dropout: 0.5, ..LoraConfig::default() };
    let trained = async |first: u64, second: u64| {
        let policy = with_lora(&golden, lora.clone()).load().unwrap();
        for (index, seed) in [first, second].into_iter().enumerate() {
            let step = support::step(vec![support::example(&golden)], index as u64, 1e-2);
            let step = TrainStep { seed, ..step };
            policy.train_step(step, Arc::new(support::Dpo { beta: 0.1 })).await.unwrap();
        }
        policy.fingerprint()
    };
    assert_eq!(trained(5, 6).await, trained(5, 6).await);
    assert_ne!(trained(5, 6).await, trained(5, 7).await);
    assert_ne!(trained(5, 6).await, trained(4, 6).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_adapter_is_small_is_pefts_and_goes_on_to_the_same_bits() {
    let golden = Golden::read("video_llava");
    let lora = LoraConfig {
        rank: 3,
        rslora: true,
        targets: names(&["q_proj", "mlp.down_proj"]),
        ..LoraConfig::default()
    };
    let load = || with_lora(&golden, lora.clone()).load().unwrap();
    let (whole, first, second) = (load(), load(), load());
    train(&whole, &golden, 0..4).await;
    train(&first, &golden, 0..2).await;
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().join("adapter");
    save(&first, &dir, CheckpointKind::TrainerState).await;
    let mut files: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let expected = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "optimizer.json",
        "optimizer.safetensors",
    ];
    assert_eq!(files, expected);
    second.load(&dir, CheckpointKind::TrainerState).await.unwrap();
    assert_eq!(second.fingerprint(), first.fingerprint());
    train(&second, &golden, 2..4).await;
    assert_eq!(second.fingerprint(), whole.fingerprint());
    // As a model of its own, which finds its base.
    let alone = TorchPolicyConfig { threads: 1, ..TorchPolicyConfig::new(&dir) }.load().unwrap();
    assert_eq!(scores(&alone, &golden).await, scores(&first, &golden).await);
    // PEFT's names and settings.
    let text = std::fs::read_to_string(dir.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&config["peft_type"], &config["r"], &config["use_rslora"]),
        (&"LORA".into(), &3.into(), &true.into())
    );
    let modules: Vec<&str> =
        config["target_modules"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(modules.contains(&"model.language_model.layers.1.mlp.down_proj"), "{modules:?}");
    let bytes = std::fs::read(dir.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 2 * modules.len());
    for module in modules {
        for half in ["A", "B"] {
            file.tensor(&format!("base_model.model.{module}.lora_{half}.weight")).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_read_and_saved_is_the_same_adapter() {
    let golden = Golden::read("llava");
    let out = tempfile::tempdir().unwrap();
    save(&adapted(&golden, "llava").load().unwrap(), out.path(), CheckpointKind::Model).await;
    let read = |folder: &Path| {
        let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let own =
            |(name, view): (String, safetensors::tensor::TensorView<'_>)| (name, view.data().to_vec());
        file.tensors().into_iter().map(own).collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(read(out.path()), read(&adapter("llava")));
    let config = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(config(out.path()), config(&adapter("llava")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_checkpoint_computes_what_base_and_adapter_do() {
    for (family, shard) in FAMILIES.into_iter().zip([SHARD, 200_000].into_iter().cycle()) {
        let golden = Golden::read(family);
        let out = tempfile::tempdir().unwrap();
        assert_eq!(merge(&golden.model(), &adapter(family), out.path(), shard).unwrap(), 4);
        assert_eq!(out.path().join("model.safetensors").exists(), shard == SHARD);
        let merged = TorchPolicyConfig { threads: 1, ..TorchPolicyConfig::new(out.path()) }.load().unwrap();
        let both = adapted(&golden, family).load().unwrap();
        let difference = difference(&scores(&merged, &golden).await, &scores(&both, &golden).await);
        assert!(difference < 1e-4, "{family}: {difference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recomputed_layers_drop_the_same_inputs() {
    let golden = Golden::read("llava");
    let mut outcomes = Vec::new();
    for (dropout, gradient_checkpointing) in [(0.0, false), (0.3, false), (0.3, true)] {
        let mut config = with_lora(&golden, LoraConfig { dropout, ..LoraConfig::default() });
        config.training.gradient_checkpointing = gradient_checkpointing;
        let policy = config.load().unwrap();
        let reports = train(&policy, &golden, 0..3).await;
        outcomes.push((policy.fingerprint(), reports));
    }
    assert_eq!(outcomes[1], outcomes[2]);
    assert_ne!(outcomes[0].0, outcomes[1].0, "dropout does something");
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_train_in_bfloat16_with_float32_values() {
    let golden = Golden::read("llava");
    let config = TorchPolicyConfig {
        precision: PrecisionConfig::Bfloat16,
        ..with_lora(&golden, LoraConfig::default())
    };
    let policy = config.load().unwrap();
    let losses: Vec<f64> = train(&policy, &golden, 0..4).await.iter().map(|report| report.loss).collect();
    assert!(losses[3] < losses[0], "{losses:?}");
    let out = tempfile::tempdir().unwrap();
    save(&policy, out.path(), CheckpointKind::Model).await;
    let bytes = std::fs::read(out.path().join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(file.tensors().iter().all(|(_, view)| view.dtype() == safetensors::Dtype::F32));
}

#[test]
fn what_cannot_be_adapted_is_said() {
    let golden = Golden::read("llava");
    let refused = |config: TorchPolicyConfig| config.load().err().unwrap().to_string();
    let error = refused(with_lora(
        &golden,
        LoraConfig { targets: names(&["q_proj", "qproj"]), ..LoraConfig::default() },
    ));
    assert!(error.contains("names qproj") && error.contains("down_proj, gate_proj, k_proj"), "{error}");
    let error = refused(with_lora(
        &golden,
        LoraConfig { targets: names(&["embed_tokens"]), ..LoraConfig::default() },
    ));
    assert!(error.contains("names embed_tokens"), "{error}");
    let mut config = adapted(&golden, "llava");
    config.training.lora = Some(LoraConfig::default());
    let error = refused(config);
    assert!(error.contains("(4, 8.0, false)") && error.contains("(16, 32.0, false)"), "{error}");
    let error = refused(TorchPolicyConfig::new(adapter("llava")));
    assert!(error.contains("models/tiny_llava") && error.contains("policy.adapter"), "{error}");
    // The layers of another model.
    let out = tempfile::tempdir().unwrap();
    let other = out.path().join("adapter");
    copied(&adapter("llava"), &other);
    let path = other.join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes[8..]).replace("layers.1.", "layers.7.");
    let length = text.find("}}").unwrap() + 2;
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut changed = bytes[..8].to_vec();
    changed.extend(&text.as_bytes()[..length]);
    changed.resize(8 + header, b' ');
    changed.extend(&bytes[8 + header..]);
    std::fs::write(&path, changed).unwrap();
    let error = refused(TorchPolicyConfig {
        adapter: Some(other.clone()),
        ..TorchPolicyConfig::new(golden.model())
    });
    assert!(error.contains("layers.7.self_attn.q_proj"), "{error}");
    let error = merge(&golden.model(), &other, &out.path().join("none"), SHARD).unwrap_err().to_string();
    assert!(error.contains("layers.7.self_attn.q_proj"), "{error}");
}

/// A golden checkpoint whose output layer is its embedding.
fn tied(golden: &Golden, folder: &Path) -> PathBuf {
    let model = folder.join("tied");
    copied(&golden.model(), &model);
    support::rename_tensors(&golden.model().join("model.safetensors"), &model, |name| {
        (!name.ends_with("lm_head.weight")).then(|| name.to_owned())
    });
    let path = model.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["tie_word_embeddings"] = true.into();
    std::fs::write(&path, config.to_string()).unwrap();
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_of_the_output_layer_is_trained_saved_and_merged() {
    let golden = Golden::read("llava");
    let out = tempfile::tempdir().unwrap();
    for (place, base) in [("own", golden.model()), ("tied", tied(&golden, out.path()))] {
        let mut prints = Vec::new();
        let dir = out.path().join(place).join("adapter");
        for gradient_checkpointing in [false, true] {
            let lora = LoraConfig { targets: names(&["lm_head"]), ..LoraConfig::default() };
            let mut config = with_lora(&golden, lora);
            config.model.clone_from(&base);
            config.training.gradient_checkpointing = gradient_checkpointing;
            let policy = config.load().unwrap();
            let losses: Vec<f64> =
                train(&policy, &golden, 0..3).await.iter().map(|report| report.loss).collect();
            assert!(losses[2] < losses[0], "{place}: {losses:?}");
            prints.push(policy.fingerprint());
            save(&policy, &dir, CheckpointKind::Model).await;
        }
        assert_eq!(prints[0], prints[1], "{place}");
        let alone = TorchPolicyConfig { threads: 1, ..TorchPolicyConfig::new(&dir) }.load().unwrap();
        let both = scores(&alone, &golden).await;
        let merged = out.path().join(place).join("merged");
        std::fs::create_dir(&merged).unwrap();
        assert_eq!(merge(&base, &dir, &merged, SHARD).unwrap(), 1);
        let merged = TorchPolicyConfig { threads: 1, ..TorchPolicyConfig::new(merged) }.load().unwrap();
        let difference = difference(&scores(&merged, &golden).await, &both);
        assert!(difference < 1e-4, "{place}: {difference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_output_layer_in_an_adapter_replaces_the_bases() {
    let golden = Golden::read("llava");
    let out = tempfile::tempdir().unwrap();
    let base = out.path().join("other");
    copied(&golden.model(), &base);
    let read = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let own = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            (name, view.shape().to_vec(), view.data().to_vec())
        };
        file.tensors().into_iter().map(own).collect::<Vec<_>>()
    };
    let write = |path: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]| {
        let views = tensors.iter().map(|(name, shape, data)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data);
            (name.as_str(), view.unwrap())
        });
        safetensors::serialize_to_file(views, None, path).unwrap();
    };
    // The base with another output layer, and an adapter that brings that layer.
    let mut tensors = read(&base.join("model.safetensors"));
    let head = tensors.iter_mut().find(|(name, ..)| name.ends_with("lm_head.weight")).unwrap();
    for value in head.2.chunks_mut(4) {
        let half = f32::from_le_bytes(value.try_into().unwrap()) / 2.0;
        value.copy_from_slice(&half.to_le_bytes());
    }
    let copy = ("base_model.model.lm_head.base_layer.weight".to_owned(), head.1.clone(), head.2.clone());
    write(&base.join("model.safetensors"), &tensors);
    let with_copy = out.path().join("adapter");
    copied(&adapter("llava"), &with_copy);
    let mut pairs = read(&with_copy.join("adapter_model.safetensors"));
    pairs.push(copy);
    write(&with_copy.join("adapter_model.safetensors"), &pairs);

    let load = |base: &Path, adapter: &Path| {
        let adapter = Some(adapter.to_owned());
        TorchPolicyConfig { adapter, threads: 1, ..TorchPolicyConfig::new(base) }.load().unwrap()
    };
    let expected = scores(&load(&base, &adapter("llava")), &golden).await;
    let brought = load(&golden.model(), &with_copy);
    assert_eq!(scores(&brought, &golden).await, expected);
    let kept = out.path().join("kept");
    save(&brought, &kept, CheckpointKind::Model).await;
    assert_eq!(scores(&load(&golden.model(), &kept), &golden).await, expected);
    let merged = out.path().join("merged");
    std::fs::create_dir(&merged).unwrap();
    merge(&golden.model(), &with_copy, &merged, SHARD).unwrap();
    let merged = TorchPolicyConfig { threads: 1, ..TorchPolicyConfig::new(merged) }.load().unwrap();
    assert!(difference(&scores(&merged, &golden).await, &expected) < 1e-4);
    // Of another size.
    let (name, shape, data) = pairs.pop().unwrap();
    pairs.push((name, vec![shape[0] - 1, shape[1]], data[..(shape[0] - 1) * shape[1] * 4].to_vec()));
    write(&with_copy.join("adapter_model.safetensors"), &pairs);
    let error = TorchPolicyConfig { adapter: Some(with_copy), ..TorchPolicyConfig::new(golden.model()) };
    let error = error.load().err().unwrap().to_string();
    assert!(error.contains("resized vocabulary"), "{error}");
}
