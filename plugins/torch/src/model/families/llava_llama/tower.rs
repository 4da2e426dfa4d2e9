//! Shape of the vision tower of a checkpoint of the LLaVA repositories, whose config only names it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::names::canonical;
use crate::error::{Result, TorchError};
use crate::json_file;

/// Upper bound of a header in bytes; thousands of tensors take some hundred kilobytes.
const LARGEST_HEADER: u64 = 100_000_000;
/// Width of SigLIP-SO400M, whose 16 heads have 72 elements.
const SO400M_WIDTH: i64 = 1152;

/// Reads `vision_config` from a tower's folder; the whole `config.json` if it has no such section.
pub(in crate::model::families) fn config(folder: &Path) -> Result<Value> {
    let config = json_file::read_optional(&folder.join("config.json"))?;
    Ok(config.get("vision_config").cloned().unwrap_or(config))
}

/// Derives `vision_config` from the shapes of the tower's tensors in a checkpoint; `None` if it has none. Heads of
/// 64 elements and GELU are assumed, as in every LanguageBind tower, for SigLIP its tanh approximation and 16 heads at the width
/// of SigLIP-SO400M: the shapes do not determine them. SigLIP's patches have a bias, CLIP's none.
pub(in crate::model::families) fn config_from_shapes(
    checkpoint: &Path,
    prefix: &str,
) -> Result<Option<Value>> {
    let mut shapes = BTreeMap::new();
    for file in files(checkpoint)? {
        header(&checkpoint.join(file), &mut shapes)?;
    }
    let shape = |name: &str| shapes.get(&format!("{prefix}{name}"));
    let (Some(patch), Some(positions), Some(inner)) = (
        shape("embeddings.patch_embedding.weight"),
        shape("embeddings.position_embedding.weight"),
        shape("encoder.layers.0.mlp.fc1.weight"),
    ) else {
        return Ok(None);
    };
    let layers =
        (0..).take_while(|i| shape(&format!("encoder.layers.{i}.mlp.fc1.weight")).is_some()).count();
    let (width, size) = (patch.first().copied().unwrap_or(0), patch.last().copied().unwrap_or(0));
    let is_siglip = shape("embeddings.patch_embedding.bias").is_some();
    let patches = positions.first().copied().unwrap_or(1) - i64::from(!is_siglip);
    let mut config = json!({
        "hidden_size": width,
        "intermediate_size": inner.first(),
        "num_hidden_layers": layers,
        "num_attention_heads": (width / 64).max(1),
        "patch_size": size,
        "image_size": (patches as f64).sqrt().round() as i64 * size,
        "hidden_act": if prefix == "vision_tower." { "quick_gelu" } else { "gelu" },
    });
    if is_siglip {
        config["model_type"] = json!("siglip_vision_model");
        config["hidden_act"] = json!("gelu_pytorch_tanh");
        if width == SO400M_WIDTH {
            config["num_attention_heads"] = json!(16);
        }
    }
    if let Some([_, frames, _]) = shape("encoder.layers.0.temporal_embedding").map(Vec::as_slice) {
        config["add_time_attn"] = json!(true);
        config["num_frames"] = json!(frames);
    }
    Ok(Some(config))
}

/// Returns the weight files: the shards of the index, or the single file.
fn files(checkpoint: &Path) -> Result<Vec<String>> {
    let index = json_file::read_optional(&checkpoint.join("model.safetensors.index.json"))?;
    let Some(map) = index["weight_map"].as_object() else {
        return Ok(vec!["model.safetensors".to_owned()]);
    };
    let mut files: Vec<String> = map.values().filter_map(Value::as_str).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Adds the shapes of a safetensors file, by canonical name. The header is its length (8 bytes), then JSON.
fn header(path: &Path, shapes: &mut BTreeMap<String, Vec<i64>>) -> Result<()> {
    let mut file = std::fs::File::open(path).map_err(TorchError::io("read", path))?;
    let mut length = [0_u8; 8];
    file.read_exact(&mut length).map_err(TorchError::io("read", path))?;
    let length = u64::from_le_bytes(length).min(LARGEST_HEADER);
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(TorchError::io("read", path))?;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| TorchError::checkpoint(path, format!("is damaged or cut off: {error}")))?;
    for (name, entry) in header {
        if let Ok(shape) = serde_json::from_value(entry["shape"].clone()) {
            shapes.insert(canonical(&name), shape);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn the_released_towers_shape_shows_in_its_tensors() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("model.video_tower.video_tower.{name}");
        let shapes = [
            ("embeddings.patch_embedding.weight", vec![128, 3, 14, 14]),
            ("embeddings.position_embedding.weight", vec![257, 128]),
            ("encoder.layers.0.mlp.fc1.weight", vec![512, 128]),
            ("encoder.layers.1.mlp.fc1.weight", vec![512, 128]),
            ("encoder.layers.0.temporal_embedding", vec![1, 8, 128]),
        ];
        let zeros = vec![0_u8; 2 * 128 * 128 * 128];
        let view = |shape: &Vec<usize>| {
            let bytes = shape.iter().product::<usize>() * 2;
            TensorView::new(Dtype::BF16, shape.clone(), &zeros[..bytes]).unwrap()
        };
        let tensors: Vec<_> = shapes.iter().map(|(name, shape)| (at(name), view(shape))).collect();
        safetensors::serialize_to_file(tensors, None, &dir.path().join("part.safetensors")).unwrap();
        let index = json!({ "weight_map": { "a": "part.safetensors", "b": "part.safetensors" } });
        std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        let config = config_from_shapes(dir.path(), "video_tower.").unwrap().unwrap();
        let expected = json!({
            "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2,
            "patch_size": 14, "image_size": 224, "hidden_act": "gelu", "add_time_attn": true, "num_frames": 8,
        });
        assert_eq!(config, expected);
        assert_eq!(config_from_shapes(dir.path(), "image_tower.").unwrap(), None);
    }
}
