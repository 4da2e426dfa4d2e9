//! Checkpoints with sparse experts: both orientations of their weights, adapters, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use isr_api::{CheckpointKind, Continuation, Policy, ScoreRequest};
use isr_torch::{LoraConfig, Targets, TorchPolicy, TorchPolicyConfig, TrainingConfig};
use safetensors::tensor::{SafeTensors, TensorView, serialize_to_file};
use support::{Golden, copied, floats, largest_difference, scene};

const FAMILY: &str = "qwen3_vl_moe";

fn is_expert(name: &str) -> bool {
    name.contains(".mlp.experts.")
}

/// Shapes of the experts in a folder.
fn shapes(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let of = |(name, view): (String, TensorView<'_>)| (name, view.shape().to_vec());
    file.tensors().into_iter().map(of).filter(|(name, _)| is_expert(name)).collect()
}

/// A copy of the golden checkpoint with experts as Qwen's released files have them, `[experts, in, out]`.
fn input_first(to: &Path) -> PathBuf {
    let golden = Golden::read(FAMILY).model();
    copied(&golden, to);
    let bytes = std::fs::read(golden.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let turned = |name: &str, view: &TensorView<'_>| -> (Vec<usize>, Vec<u8>) {
        let (shape, data) = (view.shape(), view.data());
        if !is_expert(name) {
            return (shape.to_vec(), data.to_vec());
        }
        let (count, rows, columns) = (shape[0], shape[1], shape[2]);
        let place =
            |expert: usize, row: usize, column: usize| 4 * ((expert * rows + row) * columns + column);
        let mut out = Vec::with_capacity(data.len());
        for (expert, column) in
            (0..count).flat_map(|expert| (0..columns).map(move |column| (expert, column)))
        {
            for row in 0..rows {
                let at = place(expert, row, column);
                out.extend_from_slice(&data[at..at + 4]);
            }
        }
        (vec![count, columns, rows], out)
    };
    let tensors: BTreeMap<String, _> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let (shape, data) = turned(&name, &view);
            (name, (view.dtype(), shape, data))
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, &to.join("model.safetensors")).unwrap();
    to.to_owned()
}

async fn logprobs(policy: &TorchPolicy) -> Vec<f32> {
    let golden = Golden::read(FAMILY);
    let prompt = golden.question(&scene(&golden, None));
    let continuations = vec![Continuation::Answer(golden.answer("chosen"))];
    policy.score(ScoreRequest { prompt, continuations }).await.unwrap().remove(0).logprobs
}

/// Files of Qwen compute what files of transformers 5 do, and are saved as they were read.
#[tokio::test(flavor = "multi_thread")]
async fn experts_are_read_and_saved_in_either_orientation() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Golden::read(FAMILY);
    let expected = floats(&golden.tensor("chosen_logps"));
    let turned = input_first(&folder.path().join("turned"));
    assert_ne!(shapes(&turned), shapes(&golden.model()));
    for (number, model) in [golden.model(), turned.clone()].iter().enumerate() {
        let policy = TorchPolicyConfig::new(model).load().unwrap();
        let difference = largest_difference(&logprobs(&policy).await, &expected);
        assert!(difference < 1e-4, "{}: {difference}", model.display());
        let out = folder.path().join(format!("saved-{number}"));
        std::fs::create_dir(&out).unwrap();
        policy.save(&out, CheckpointKind::Model).await.unwrap();
        assert_eq!(shapes(&out), shapes(model));
        assert_eq!(TorchPolicyConfig::new(&out).load().unwrap().fingerprint(), policy.fingerprint());
    }
    // Weights are loaded in place, so the orientation of a loaded model is that of its first folder.
    let policy = TorchPolicyConfig::new(golden.model()).load().unwrap();
    let before = policy.fingerprint();
    let error = policy.load(&folder.path().join("saved-1"), CheckpointKind::Model).await.unwrap_err();
    assert!(error.to_string().contains("load this folder as policy.model"), "{error}");
    assert_eq!(policy.fingerprint(), before);
}

/// `all-linear` and names of layers reach what PEFT's do: linear layers, which router and experts are not.
#[tokio::test(flavor = "multi_thread")]
async fn adapters_leave_router_and_experts_alone() {
    let golden = Golden::read(FAMILY);
    let load = |targets: Targets| {
        let lora = LoraConfig { rank: 4, targets, ..LoraConfig::default() };
        let training = TrainingConfig { lora: Some(lora), ..TrainingConfig::default() };
        TorchPolicyConfig { training, ..TorchPolicyConfig::new(golden.model()) }.load()
    };
    let out = tempfile::tempdir().unwrap();
    let policy = load(LoraConfig::default().targets).unwrap();
    policy.save(out.path(), CheckpointKind::Model).await.unwrap();
    let text = std::fs::read_to_string(out.path().join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let modules: Vec<&str> =
        config["target_modules"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let in_mlp: Vec<&&str> = modules.iter().filter(|name| name.contains(".mlp.")).collect();
    // The layer between the sparse ones.
    let dense = ["down_proj", "gate_proj", "up_proj"]
        .map(|name| format!("model.language_model.layers.1.mlp.{name}"));
    assert_eq!(in_mlp.len(), 3, "{modules:?}");
    assert!(dense.iter().all(|name| modules.contains(&name.as_str())), "{modules:?}");
    assert_eq!(modules.len(), 3 * 4 + 3, "{modules:?}");
    let error = load(Targets::Names(vec!["gate_up_proj".to_owned()])).err().unwrap().to_string();
    assert!(error.contains("no linear layer of the trained parts is called so"), "{error}");
}

/// Adapters of PEFT on parameters that are no layers.
#[test]
fn adapters_on_the_experts_themselves_are_refused() {
    let golden = Golden::read(FAMILY);
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    copied(&support::folder().join(format!("{FAMILY}_lora_adapter")), &adapter);
    let path = adapter.join("adapter_config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["target_parameters"] = serde_json::json!(["mlp.experts.gate_up_proj"]);
    std::fs::write(&path, config.to_string()).unwrap();
    let loaded =
        TorchPolicyConfig { adapter: Some(adapter), ..TorchPolicyConfig::new(golden.model()) }.load();
    let error = loaded.err().unwrap().to_string();
    assert!(error.contains("target_parameters") && error.contains("not supported"), "{error}");
}
