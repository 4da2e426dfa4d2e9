//! Checkpoint folders: shards, names, manifests, and what is wrong with them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use isr_api::{BuildContext, CheckpointKind, Component, Continuation, Policy, ScoreRequest};
use isr_torch::{InspectConfig, Precision, ShardConfig, TorchPolicyConfig, VisionTowerConfig, inspect};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use support::{FAMILIES, Golden, copied, floats, largest_difference, scene};
use tempfile::TempDir;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of the golden checkpoint.
fn copy() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    copied(&Golden::read("llava").model(), &model);
    (folder, model)
}

fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = |(name, view): (String, TensorView<'_>)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(own).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, path).unwrap();
}

async fn saved(model: &Path, shard_gb: f64) -> PathBuf {
    let out = model.with_file_name("saved");
    fs::create_dir(&out).unwrap();
    let policy = TorchPolicyConfig { shard_gb, ..TorchPolicyConfig::new(model) }.load().unwrap();
    policy.save(&out, CheckpointKind::Model).await.unwrap();
    assert_eq!(TorchPolicyConfig::new(&out).load().unwrap().fingerprint(), policy.fingerprint());
    out
}

/// A sharded checkpoint.
async fn sharded() -> (TempDir, PathBuf) {
    let (folder, model) = copy();
    let out = saved(&model, 0.0002).await;
    (folder, out)
}

fn shards(folder: &Path) -> Vec<String> {
    let names =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
    names.sort();
    names
}

fn refused(model: &Path) -> String {
    TorchPolicyConfig::new(model).load().err().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_saved_in_shards_below_the_limit_with_transformers_names() {
    let (_folder, out) = sharded().await;
    let names = shards(&out);
    assert!(names.len() > 2, "{names:?}");
    for (index, name) in names.iter().enumerate() {
        assert_eq!(*name, format!("model-{:05}-of-{:05}.safetensors", index + 1, names.len()));
        let tensors = read(&out.join(name));
        let bytes: usize = tensors.values().map(|(_, _, data)| data.len()).sum();
        assert!(bytes <= 200_000 || tensors.len() == 1, "{name}: {bytes}");
    }
    let text = fs::read_to_string(out.join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap();
    let whole = read(&Golden::read("llava").model().join("model.safetensors"));
    let total: usize = whole.values().map(|(_, _, data)| data.len()).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    let map = index["weight_map"].as_object().unwrap();
    assert_eq!(map.len(), whole.len());
    for (name, (dtype, shape, data)) in whole {
        let shard = read(&out.join(map[&name].as_str().unwrap()));
        assert_eq!(shard[&name], (dtype, shape, data), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_keep_the_names_that_they_came_under() {
    let (_folder, model) = copy();
    let path = model.join("model.safetensors");
    let tensors = read(&path);
    let older = |name: &str| name.replace("vision_tower.", "vision_tower.vision_model.");
    let tensors: Tensors = tensors.into_iter().map(|(name, tensor)| (older(&name), tensor)).collect();
    write(&path, &tensors);
    let out = saved(&model, 5.0).await;
    assert_eq!(read(&out.join("model.safetensors")), tensors);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_cut_and_misnamed_shards_are_named() {
    let (_folder, out) = sharded().await;
    fs::remove_file(out.join("manifest.json")).unwrap();
    let names = shards(&out);
    let shard = out.join(&names[1]);
    let whole = fs::read(&shard).unwrap();

    fs::write(&shard, &whole[..whole.len() - 100]).unwrap();
    let error = refused(&out);
    assert!(
        error.contains(&names[1]) && error.contains("cut off") && error.contains("promises"),
        "{error}"
    );
    fs::write(&shard, &whole[..5]).unwrap();
    assert!(refused(&out).contains("it has 5 bytes"), "{}", refused(&out));
    fs::write(&shard, [&[0xff; 8], &whole[8..]].concat()).unwrap();
    assert!(refused(&out).contains("its header takes"), "{}", refused(&out));

    fs::remove_file(&shard).unwrap();
    let error = refused(&out);
    assert!(
        error.contains("index.json: names") && error.contains(&names[1]) && error.contains("missing"),
        "{error}"
    );

    fs::write(&shard, fs::read(out.join(&names[0])).unwrap()).unwrap();
    let error = refused(&out);
    assert!(error.contains("index.json: finds") && error.contains("no such tensor"), "{error}");

    let index = out.join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace(&names[1], "../model.safetensors")).unwrap();
    assert!(refused(&out).contains("is no file name"), "{}", refused(&out));
}

#[test]
fn weights_of_a_wrong_type_are_named() {
    for (dtype, said) in [(Dtype::U8, "has type U8"), (Dtype::I64, "has type I64")] {
        let (_folder, model) = copy();
        let path = model.join("model.safetensors");
        let mut tensors = read(&path);
        let tensor = tensors.get_mut("language_model.model.norm.weight").unwrap();
        *tensor = (dtype, vec![64], vec![0; 64 * dtype.bitsize() / 8]);
        write(&path, &tensors);
        let error = refused(&model);
        assert!(error.contains("language_model.model.norm.weight") && error.contains(said), "{error}");
    }
}

#[test]
fn pickled_weights_are_not_read_and_the_way_out_is_named() {
    let (_folder, model) = copy();
    fs::remove_file(model.join("model.safetensors")).unwrap();
    assert!(refused(&model).contains("holds no weights"), "{}", refused(&model));
    fs::write(model.join("pytorch_model-00001-of-00002.bin"), "anything").unwrap();
    let error = refused(&model);
    assert!(error.contains("python examples/convert_checkpoint.py"), "{error}");
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/convert_checkpoint.py").exists());
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_refused() {
    let (_folder, model) = copy();
    let path = model.join("tokenizer.json");
    let mut tokenizer: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut token = tokenizer["added_tokens"][0].clone();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    for id in 0..200 {
        token["id"] = (5000 + id).into();
        token["content"] = format!("<extra {id}>").into();
        added.push(token.clone());
    }
    fs::write(&path, tokenizer.to_string()).unwrap();
    let error = refused(&model);
    assert!(error.contains("tokenizer.json") && error.contains("embedding only"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_noticed_by_its_manifest() {
    let (_folder, out) = sharded().await;
    let shard = out.join(&shards(&out)[0]);
    let mut bytes = fs::read(&shard).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let error = refused(&out);
    assert!(error.contains(&shards(&out)[0]) && error.contains("manifest.json"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_reads_its_tower_and_nothing_else() {
    let (_folder, out) = sharded().await;
    fs::remove_file(out.join("manifest.json")).unwrap();
    let load = |model: &Path| {
        let config = VisionTowerConfig { model: Some(model.to_owned()), ..support::tower_config() };
        config.build(&BuildContext::default()).map(|encoder| encoder.fingerprint())
    };
    let expected = load(&Golden::read("llava").model()).unwrap();
    // The language model's values become NaN: whoever reads them has another fingerprint.
    for name in shards(&out) {
        let mut tensors = read(&out.join(&name));
        for (name, (_, _, data)) in &mut tensors {
            if !name.starts_with("vision_tower") {
                data.fill(0xff);
            }
        }
        write(&out.join(name), &tensors);
    }
    assert_eq!(load(&out).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_counts_what_is_there_and_reads_no_weights() {
    let (_folder, out) = sharded().await;
    let given = InspectConfig {
        frames: 8,
        size: [84, 70],
        batch: 2,
        tokens: 100,
        precision: Precision::Bfloat16,
        verify: true,
        processes: 1,
        shard: ShardConfig::None,
        quantization: None,
    };
    let found = inspect(&out, &given).unwrap();
    let whole = read(&Golden::read("llava").model().join("model.safetensors"));
    let bytes: usize = whole.values().map(|(_, _, data)| data.len()).sum();
    assert_eq!((found.bytes, found.parameters), (bytes as u64, bytes as u64 / 4));
    assert_eq!(found.parts.iter().map(|part| part.parameters).sum::<u64>(), found.parameters);
    assert_eq!((found.family.as_str(), found.files), ("llava", shards(&out).len()));
    assert_eq!(found.dtypes, ["F32"]);
    assert_eq!(found.sequence, found.visual_tokens + 100);
    assert!(found.memory.inference > bytes as u64 / 2 && found.memory.full > 4 * bytes as u64);
    fs::remove_file(out.join(&shards(&out)[0])).unwrap();
    assert!(inspect(&out, &given).is_err());
}

/// Lets both halves of a checkpoint's config say whether the output layer is tied; `None` says nothing.
fn say_tied(model: &Path, outer: Option<bool>, text: Option<bool>) {
    let path = model.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (section, said) in [("", outer), ("/text_config", text)] {
        let section = config.pointer_mut(section).unwrap().as_object_mut().unwrap();
        section.remove("tie_word_embeddings");
        section.extend(said.map(|said| ("tie_word_embeddings".to_owned(), said.into())));
    }
    fs::write(&path, config.to_string()).unwrap();
}

/// What both halves of a checkpoint's config say of tying.
fn said_tied(model: &Path) -> [Option<bool>; 2] {
    let text = fs::read_to_string(model.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    ["/tie_word_embeddings", "/text_config/tie_word_embeddings"]
        .map(|key| config.pointer(key).and_then(serde_json::Value::as_bool))
}

/// Log-probs of a golden's chosen answer.
async fn chosen(golden: &Golden, model: &Path) -> Vec<f32> {
    let policy = TorchPolicyConfig::new(model).load().unwrap();
    let prompt = golden.question(&scene(golden, None));
    let continuations = vec![Continuation::Answer(golden.answer("chosen"))];
    policy.score(ScoreRequest { prompt, continuations }).await.unwrap().remove(0).logprobs
}

fn head_and_embedding(tensors: &Tensors) -> [String; 2] {
    ["lm_head.weight", "embed_tokens.weight"]
        .map(|end| tensors.keys().find(|name| name.ends_with(end)).unwrap().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_layer_of_its_own_is_used_whatever_the_config_says() {
    let (yes, no) = (Some(true), Some(false));
    for family in FAMILIES {
        let golden = Golden::read(family);
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        copied(&golden.model(), &model);
        let all: &[_] = &[(yes, no), (no, yes), (yes, None), (None, yes), (yes, yes)];
        for &(outer, text) in if family == "llava" { all } else { &all[..2] } {
            say_tied(&model, outer, text);
            let difference =
                largest_difference(&chosen(&golden, &model).await, &floats(&golden.tensor("chosen_logps")));
            assert!(difference < 1e-4, "{family} {outer:?} {text:?}: {difference}");
        }
        // In shards, with a config that says what is used.
        say_tied(&model, yes, no);
        let out = saved(&model, 0.0002).await;
        assert_eq!(said_tied(&out), [no, no], "{family}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_output_layer_is_the_embedding_where_the_config_says_so() {
    let (golden, (_folder, model)) = (Golden::read("llava"), copy());
    let path = model.join("model.safetensors");
    let mut tensors = read(&path);
    let [head, embedding] = head_and_embedding(&tensors);
    tensors.insert(head.clone(), tensors[&embedding].clone());
    write(&path, &tensors);
    say_tied(&model, Some(false), Some(false));
    let expected = chosen(&golden, &model).await;
    let given = InspectConfig {
        frames: 8,
        size: [56, 56],
        batch: 1,
        tokens: 16,
        precision: Precision::Float32,
        verify: false,
        processes: 1,
        shard: ShardConfig::None,
        quantization: None,
    };
    let parameters = |model: &Path| inspect(model, &given).unwrap().parameters;
    let twice = parameters(&model);
    // A copy of the embedding is no further layer where the config says tied.
    say_tied(&model, Some(true), None);
    let once = parameters(&model);
    assert!(once < twice, "{once} {twice}");
    tensors.remove(&head);
    write(&path, &tensors);
    for (outer, text) in [(Some(true), Some(false)), (Some(false), Some(true)), (None, Some(true))] {
        say_tied(&model, outer, text);
        assert_eq!(chosen(&golden, &model).await, expected, "{outer:?} {text:?}");
        assert_eq!(parameters(&model), once);
    }
    let out = saved(&model, 5.0).await;
    assert_eq!(said_tied(&out), [Some(true), Some(true)]);
    for (outer, text) in [(Some(false), Some(false)), (None, None)] {
        say_tied(&model, outer, text);
        let error = refused(&model);
        assert!(error.contains("lm_head.weight") && error.contains("tie_word_embeddings"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buffers_of_older_versions_are_skipped() {
    for family in ["llava", "qwen2_5_vl"] {
        let golden = Golden::read(family);
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        copied(&golden.model(), &model);
        let path = model.join("model.safetensors");
        let mut tensors = read(&path);
        let tower = if family == "llava" {
            "vision_tower.vision_model.embeddings"
        } else {
            "visual.rotary_pos_emb"
        };
        for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.cos_cached"] {
            tensors.insert(name.to_owned(), (Dtype::F32, vec![2], vec![0; 8]));
        }
        tensors.insert(format!("{tower}.inv_freq"), (Dtype::F32, vec![2], vec![0; 8]));
        tensors.insert(format!("{tower}.position_ids"), (Dtype::I64, vec![1, 2], vec![0; 16]));
        write(&path, &tensors);
        let difference =
            largest_difference(&chosen(&golden, &model).await, &floats(&golden.tensor("chosen_logps")));
        assert!(difference < 1e-4, "{family}: {difference}");
    }
}
