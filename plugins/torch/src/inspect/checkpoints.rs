//! What the library says of released checkpoints, by their own files: `tests/checkpoints` has configs, tensor names and
//! parameter counts as they are published, each with its source.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{InspectConfig, inspect};
use crate::device::Precision;
use crate::model::expected::expected_tensors;
use crate::model::experts_config::Orientation;
use crate::model::families::parse_config;
use crate::train::ShardConfig;

/// Facts about a checkpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Repository on the hub.
    repository: String,
    /// Where the facts were published.
    source: String,
    family: String,
    context: u64,
    config: Value,
    /// Number of parameters, where it was published.
    parameters: Option<u64>,
    /// Of the tower.
    tower: Option<u64>,
    /// Parameters that one token is multiplied with.
    active: Option<u64>,
    /// Number of tensors.
    count: Option<usize>,
    /// Shapes by name; `{0..27}` stands for a range of numbers.
    tensors: Option<BTreeMap<String, Vec<u64>>>,
}

fn rows() -> Vec<(String, Row)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let mut rows: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let row = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, row)
        })
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

/// All names that a pattern stands for.
fn names(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.to_owned()] };
    let (range, after) = rest.split_once('}').unwrap();
    let (first, last) = range.split_once("..").unwrap();
    let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
    (first..=last).map(|number| format!("{before}{number}{after}")).collect()
}

/// Every tensor of a row with its shape.
fn tensors(patterns: &BTreeMap<String, Vec<u64>>) -> BTreeMap<String, Vec<u64>> {
    let of = |(pattern, shape): (&String, &Vec<u64>)| {
        names(pattern).into_iter().map(|name| (name, shape.clone())).collect::<Vec<_>>()
    };
    patterns.iter().flat_map(of).collect()
}

/// Writes a safetensors file of bfloat16 tensors whose values take no room on the disk. The first value of the output
/// layer is not 0, so that it differs from the embedding.
fn write_sparse(path: &Path, tensors: &BTreeMap<String, Vec<u64>>) {
    let (mut header, mut end, mut head) = (serde_json::Map::new(), 0_u64, 0);
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        if name == "lm_head.weight" {
            head = start;
        }
        header
            .insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    let data = 8 + header.len() as u64;
    file.set_len(data + end).unwrap();
    file.seek(SeekFrom::Start(data + head)).unwrap();
    file.write_all(&[1]).unwrap();
}

/// Of a config alone: family, context and, to the last bias, the number of parameters.
#[test]
fn configs_promise_the_published_number_of_parameters() {
    let rows = rows();
    assert!(rows.len() >= 10);
    for (name, row) in rows {
        assert!(!row.source.is_empty() && row.repository.contains('/'), "{name}");
        let config = parse_config(row.config.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(config.source["model_type"], row.family.as_str(), "{name}");
        assert_eq!(config.text.max_position_embeddings as u64, row.context, "{name}");
        let expected = expected_tensors(&config, Orientation::OutputFirst);
        let count = |wanted: &dyn Fn(&str) -> bool| -> u64 {
            let of = expected.iter().filter(|(name, _)| wanted(name));
            of.map(|(_, shape)| shape.iter().product::<i64>() as u64).sum()
        };
        // Of `tie_word_embeddings` in the decoder's section, the files decide; the models here have output layers of their
        // own where the outer section says so.
        let head = match (config.text.tie_word_embeddings, row.config["tie_word_embeddings"] == json!(true))
        {
            (true, false) => (config.text.vocab_size * config.text.hidden_size) as u64,
            _ => 0,
        };
        if let Some(parameters) = row.parameters {
            assert_eq!(count(&|_| true) + head, parameters, "{name}");
        }
        if let Some(tower) = row.tower {
            assert_eq!(count(&|name| name.starts_with(config.tower())), tower, "{name}");
        }
    }
}

/// Of a folder: every name and shape of the files is expected, none is missing, and `isr inspect` says what was published.
#[test]
fn files_of_released_checkpoints_are_inspected() {
    let mut inspected = 0;
    for (name, row) in rows() {
        let Some(patterns) = &row.tensors else { continue };
        let all = tensors(patterns);
        assert_eq!(Some(all.len()), row.count, "{name}");
        let folder = tempfile::tempdir().unwrap();
        write_sparse(&folder.path().join("model.safetensors"), &all);
        std::fs::write(folder.path().join("config.json"), row.config.to_string()).unwrap();
        let given = InspectConfig {
            frames: 8,
            size: [640, 360],
            batch: 1,
            tokens: 512,
            precision: Precision::Bfloat16,
            verify: false,
            processes: 1,
            shard: ShardConfig::None,
            quantization: None,
        };
        let found = inspect(folder.path(), &given).unwrap_or_else(|error| panic!("{name}: {error}"));
        let parameters = row.parameters.unwrap();
        assert_eq!((found.family.as_str(), found.parameters), (row.family.as_str(), parameters), "{name}");
        assert_eq!((found.active_parameters, found.context), (row.active, row.context), "{name}");
        assert_eq!(
            (found.dtypes.as_slice(), found.bytes),
            (["BF16".to_owned()].as_slice(), 2 * parameters)
        );
        // There is no tokenizer in the folder, which is said.
        assert!(found.chat_error.is_some(), "{name}");
        inspected += 1;
    }
    assert_eq!(inspected, 4);
}

/// `Qwen/Qwen3.5-27B`, the keys that tell (github.com/sgl-project/ome, `testdata/qwen3_5_27b.json`).
#[test]
fn a_family_that_is_not_supported_is_named() {
    let error = parse_config(json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"], "image_token_id": 248_056, "model_type": "qwen3_5",
        "text_config": {
            "full_attention_interval": 4, "head_dim": 256, "hidden_size": 5120, "model_type": "qwen3_5_text",
            "linear_conv_kernel_dim": 4, "linear_num_value_heads": 48, "num_hidden_layers": 64, "vocab_size": 248_320,
        },
        "tie_word_embeddings": false, "video_token_id": 248_057,
        "vision_config": { "deepstack_visual_indexes": [], "depth": 27, "out_hidden_size": 5120 },
    }))
    .unwrap_err();
    assert!(error.contains("`qwen3_5` is not supported"), "{error}");
    assert!(error.contains("qwen3_vl_moe") && error.contains("qwen2_vl"), "{error}");
}
