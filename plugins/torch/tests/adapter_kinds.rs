//! Kinds of LoRA adapters against PEFT (`adapters.json`, made by `tests/golden/adapters.py`).

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{
    CheckpointKind, GenerateRequest, Policy, Response, Sampling, ScoreRequest, StepReport, Target,
};
use isr_torch::{
    DecodingConfig, LoraConfig, Modules, Targets, TorchPolicy, TorchPolicyConfig, TrainingConfig, merge,
};
use serde_json::Value;
use support::{Dpo, Golden, copied, example, folder, largest_difference, step};

const KINDS: [&str; 5] = ["dora", "patterns", "layers", "saved", "tied"];

fn golden() -> (Golden, Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/adapters.json");
    (Golden::read("llava"), serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

fn adapter(kind: &str) -> PathBuf {
    folder().join(format!("llava_{kind}_adapter"))
}

/// The base of a kind; the tied one is written into `place`.
fn base(golden: &Golden, kind: &str, place: &Path) -> PathBuf {
    if kind != "tied" {
        return golden.model();
    }
    let model = place.join("tied");
    if !model.exists() {
        copied(&golden.model(), &model);
        support::rename_tensors(&golden.model().join("model.safetensors"), &model, |name| {
            (!name.ends_with("lm_head.weight")).then(|| name.to_owned())
        });
        let path = model.join("config.json");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        config["tie_word_embeddings"] = true.into();
        config["text_config"]["tie_word_embeddings"] = true.into();
        std::fs::write(&path, config.to_string()).unwrap();
    }
    model
}

fn config(base: &Path, adapter: Option<PathBuf>) -> TorchPolicyConfig {
    TorchPolicyConfig { adapter, threads: 1, ..TorchPolicyConfig::new(base) }
}

async fn scores(policy: &TorchPolicy, golden: &Golden) -> [Vec<f32>; 2] {
    let pair = example(golden);
    let continuations = vec![pair.chosen.continuation, pair.rejected.unwrap().continuation];
    let scored = policy.score(ScoreRequest { prompt: pair.prompt, continuations }).await.unwrap();
    [scored[0].logprobs.clone(), scored[1].logprobs.clone()]
}

async fn greedy(policy: &TorchPolicy, golden: &Golden) -> Response {
    let prompt = example(golden).prompt;
    let request = GenerateRequest { prompt, sampling: Sampling::greedy(12), n: 1, seed: 0 };
    policy.generate(request).await.unwrap().remove(0)
}

fn difference(a: &[Vec<f32>; 2], b: &[Vec<f32>; 2]) -> f32 {
    a.iter().zip(b).map(|(a, b)| largest_difference(a, b)).fold(0.0, f32::max)
}

async fn train(
    policy: &TorchPolicy,
    golden: &Golden,
    base: &Path,
    steps: std::ops::Range<u64>,
) -> Vec<StepReport> {
    let [chosen, rejected] = scores(&config(base, None).load().unwrap(), golden).await;
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

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn log_probs(value: &Value) -> [Vec<f32>; 2] {
    [0, 1].map(|at| floats(&value[at]).into_iter().map(|value| value as f32).collect())
}

async fn save(policy: &TorchPolicy, folder: &Path, what: CheckpointKind) {
    std::fs::create_dir_all(folder).unwrap();
    policy.save(folder, what).await.unwrap();
}

fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_of_each_kind_give_pefts_numbers_and_train_as_in_peft() {
    let (golden, numbers) = golden();
    let out = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let expected = &numbers["kinds"][kind];
        let base = base(&golden, kind, out.path());
        let policy = config(&base, Some(adapter(kind))).load().unwrap();
        let far = difference(&scores(&policy, &golden).await, &log_probs(&expected["log_probs"]));
        assert!(far < 1e-4, "{kind}: log-probs differ by {far}");
        // Read and saved, it is the same adapter.
        let saved = out.path().join(format!("{kind} saved"));
        save(&policy, &saved, CheckpointKind::Model).await;
        assert!(tensors(&saved) == tensors(&adapter(kind)), "{kind}");
        let reports = train(&policy, &golden, &base, 0..5).await;
        for (report, loss) in reports.iter().zip(floats(&expected["losses_before_step"])) {
            assert!((report.loss - loss).abs() < 1e-4 * loss.max(1.0), "{kind}: {} {loss}", report.loss);
        }
        let norms = expected["grad_norms"].as_object().unwrap().values();
        let norm = norms.map(|norm| norm.as_f64().unwrap().powi(2)).sum::<f64>().sqrt();
        assert!(
            (reports[0].grad_norm / norm - 1.0).abs() < 1e-4,
            "{kind}: {} {norm}",
            reports[0].grad_norm
        );
        let behind = log_probs(&expected["log_probs_behind"]);
        let far = difference(&scores(&policy, &golden).await, &behind);
        assert!(far < 1e-4, "{kind}: log-probs behind five steps differ by {far}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fused_decoding_and_merging_compute_what_the_adapter_does() {
    let (golden, _) = golden();
    let out = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let base = base(&golden, kind, out.path());
        let with = config(&base, Some(adapter(kind)));
        let reproducible = with.load().unwrap();
        let expected = scores(&reproducible, &golden).await;
        let merged = out.path().join(format!("{kind} merged"));
        std::fs::create_dir_all(&merged).unwrap();
        merge(&base, &adapter(kind), &merged, 5_000_000_000).unwrap();
        let merged = config(&merged, None).load().unwrap();
        let far = difference(&scores(&merged, &golden).await, &expected);
        assert!(far < 1e-4, "{kind}: {far}");
        let fused = TorchPolicyConfig { decoding: DecodingConfig::Fused, ..with }.load().unwrap();
        let (one, other) = (greedy(&reproducible, &golden).await, greedy(&fused, &golden).await);
        assert_eq!(one.token_ids, other.token_ids, "{kind}");
        assert!(largest_difference(&one.logprobs, &other.logprobs) < 1e-4, "{kind}");
    }
}

/// Whatever the kind: new adapters change nothing at first, and snapshots go on to the same bits.
#[tokio::test(flavor = "multi_thread")]
async fn new_adapters_of_each_kind_are_trained_saved_and_continued() {
    let (golden, _) = golden();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let kinds = [
        LoraConfig { dora: true, dropout: 0.1, ..LoraConfig::default() },
        LoraConfig {
            rank: 4,
            targets: Targets::Pattern(r".*language_model.*\.(q_proj|down_proj)".to_owned()),
            exclude: Some(Modules::Pattern(".*layers.0.*q_proj".to_owned())),
            rank_pattern: [("down_proj".to_owned(), 2)].into(),
            alpha_pattern: [(r"1\.self_attn\.q_proj".to_owned(), 3.0)].into(),
            ..LoraConfig::default()
        },
        LoraConfig {
            targets: Targets::Names(names(&["q_proj", "lm_head"])),
            layers: vec![1],
            dora: true,
            modules_to_save: names(&["embed_tokens", "linear_2", "layers.0.mlp", "norm"]),
            ..LoraConfig::default()
        },
    ];
    // Of 14 linear layers in two decoder layers. The output layer is in none.
    let adapted = [14, 3, 1];
    for (index, lora) in kinds.into_iter().enumerate() {
        let out = tempfile::tempdir().unwrap();
        let load = || {
            let training = TrainingConfig { lora: Some(lora.clone()), ..TrainingConfig::default() };
            TorchPolicyConfig { training, ..config(&golden.model(), None) }.load()
        };
        let (whole, first, second) = (load().unwrap(), load().unwrap(), load().unwrap());
        let before = scores(&config(&golden.model(), None).load().unwrap(), &golden).await;
        assert!(difference(&scores(&whole, &golden).await, &before) < 1e-5);
        train(&whole, &golden, &golden.model(), 0..4).await;
        let reports = train(&first, &golden, &golden.model(), 0..2).await;
        assert!(reports[1].loss < reports[0].loss);
        let dir = out.path().join("adapter");
        save(&first, &dir, CheckpointKind::TrainerState).await;
        second.load(&dir, CheckpointKind::TrainerState).await.unwrap();
        assert_eq!(second.fingerprint(), first.fingerprint());
        train(&second, &golden, &golden.model(), 2..4).await;
        assert_eq!(second.fingerprint(), whole.fingerprint(), "{index}");
        let alone = config(&dir, None).load().unwrap();
        assert_eq!(scores(&alone, &golden).await, scores(&first, &golden).await, "{index}");
        let count = tensors(&dir).keys().filter(|name| name.ends_with("lora_A.weight")).count();
        assert_eq!(count, adapted[index], "{index}");
    }
}

#[test]
fn settings_that_choose_nothing_are_named() {
    let (golden, _) = golden();
    let refused = |lora: LoraConfig| {
        let training = TrainingConfig { lora: Some(lora), ..TrainingConfig::default() };
        let config = TorchPolicyConfig { training, ..config(&golden.model(), None) };
        config.load().err().unwrap().to_string()
    };
    let plain = LoraConfig::default;
    for (lora, named) in [
        (
            LoraConfig { targets: Targets::Pattern("q_proj".to_owned()), ..plain() },
            "training.lora (targets",
        ),
        (LoraConfig { layers: vec![7], ..plain() }, "training.lora (targets"),
        (
            LoraConfig { rank_pattern: [("qproj".to_owned(), 4)].into(), ..plain() },
            "rank_pattern has `qproj`",
        ),
        (
            LoraConfig { modules_to_save: vec!["lmhead".to_owned()], ..plain() },
            "modules_to_save names lmhead",
        ),
    ] {
        let error = refused(lora);
        assert!(error.contains(named), "{error}");
    }
    let mut other = config(&golden.model(), Some(adapter("dora")));
    other.training.lora = Some(LoraConfig { rank: 4, alpha: 8.0, ..plain() });
    let error = other.load().err().unwrap().to_string();
    assert!(error.contains("dora"), "{error}");
}
