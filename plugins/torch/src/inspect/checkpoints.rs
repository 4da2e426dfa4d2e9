//! What the library says of released checkpoints, by their own files: `tests/checkpoints` has configs, tensor names,
//! parameter counts, chat templates and stop tokens as they are published, each with its source.

mod row;

use serde_json::json;

use self::row::{Row, rows};
use super::{InspectConfig, Inspection, inspect};
use crate::device::Precision;
use crate::error::Result;
use crate::model::families::parse_config;
use crate::train::ShardConfig;

/// Inspects the files of a row.
fn inspected(row: &Row) -> Result<Inspection> {
    let folder = tempfile::tempdir().unwrap();
    row.write(folder.path());
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
    inspect(folder.path(), &given)
}

/// Family, context, sizes and output layer, of all rows that are not refused.
#[test]
fn released_checkpoints_are_what_was_published() {
    let rows = rows();
    assert!(rows.len() >= 25);
    for (name, row) in rows.iter().filter(|(_, row)| row.refused.is_none()) {
        assert!(!row.source.is_empty() && row.repository.contains('/'), "{name}");
        let found = inspected(row).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((found.family.as_str(), found.context), (row.family.as_str(), row.context), "{name}");
        assert_eq!(found.parameters, row.parameters.unwrap_or(found.parameters), "{name}");
        let rounded = format!("{:.1}B", found.parameters as f64 / 1e9);
        assert_eq!(&rounded, row.rounded.as_ref().unwrap_or(&rounded), "{name}");
        let tower = found.parts.iter().find(|part| part.name == row.tower_name()).unwrap().parameters;
        assert_eq!(tower, row.tower.unwrap_or(tower), "{name}");
        assert_eq!(found.active_parameters, row.active.or(found.active_parameters), "{name}");
        assert_eq!(found.tied_output_layer, row.tied.unwrap_or(found.tied_output_layer), "{name}");
        assert_eq!((found.dtypes, found.bytes), (vec!["BF16".to_owned()], 2 * found.parameters), "{name}");
    }
}

/// Template, its place, the prompt of a video and the tokens at which an answer ends, where they were published.
#[test]
fn released_templates_and_stop_tokens_are_read() {
    let mut prompts = 0;
    for (name, row) in rows().iter().filter(|(_, row)| row.refused.is_none()) {
        let found = inspected(row).unwrap_or_else(|error| panic!("{name}: {error}"));
        let Some(prompt) = &row.prompt else {
            // There is no tokenizer in the folder or no template, which is said.
            assert!(found.chat.is_none() && found.chat_error.is_some(), "{name}");
            continue;
        };
        let chat = found.chat.unwrap_or_else(|| panic!("{name}: {:?}", found.chat_error));
        assert_eq!((found.prompt.as_ref(), found.chat_error), (Some(prompt), None), "{name}");
        if let Some(place) = row.template.as_ref().and_then(|template| template.files.first()) {
            assert_eq!(&chat.template, place, "{name}");
        }
        if let Some(stops) = &row.stops {
            let expected: Vec<&String> = stops.iter().map(|(text, _)| text).collect();
            assert_eq!(chat.stop_tokens.iter().collect::<Vec<_>>(), expected, "{name}");
            assert!(stops.iter().all(|(text, id)| row.id(text) == Some(*id)), "{name}");
            assert_eq!(chat.answer_end, stops[0].0, "{name}");
        }
        prompts += 1;
    }
    assert!(prompts >= 18, "{prompts}");
}

/// A checkpoint that cannot be used is refused by the config key or the tensor that it is about.
#[test]
fn released_checkpoints_that_are_not_supported_are_refused_with_the_reason() {
    let mut refused = 0;
    for (name, row) in rows() {
        let Some(reason) = &row.refused else { continue };
        let error = inspected(&row).expect_err(&name).to_string();
        assert!(error.contains(reason), "{name}: {error}");
        refused += 1;
    }
    assert_eq!(refused, 2);
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
