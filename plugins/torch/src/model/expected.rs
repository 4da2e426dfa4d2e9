//! Names and shapes of the tensors that a model config requires.

use std::collections::HashMap;
use std::path::Path;

use super::config::{ModelConfig, VisionConfig};
use super::experts_config::Orientation;
use super::vision::ClipVision;
use crate::error::Result;
use crate::tensors::TensorFolder;

/// Returns names and shapes of every tensor of the model, with experts in the given orientation.
pub(crate) fn expected_tensors(
    config: &ModelConfig,
    orientation: Orientation,
) -> HashMap<String, Vec<i64>> {
    let mut all = HashMap::new();
    match &config.vision {
        VisionConfig::Clip(vision) => all.extend(clip_tower(vision.prefix, vision)),
        VisionConfig::Siglip(vision) => vision.tensors(&mut all),
        VisionConfig::Intern(vision) => vision.tensors(&mut all),
        VisionConfig::Qwen(vision) => vision.tensors(&mut all),
    }
    if let Some(projector) = config.vision.projector() {
        projector.tensors(&mut all, config.text.hidden_size);
    }
    all.extend(config.extra_tensors.clone());
    decoder(&mut all, config, orientation);
    all
}

/// Returns the orientation of the experts in a checkpoint folder: that of transformers 5 where there are none.
///
/// # Errors
/// Weights that cannot be opened.
pub(super) fn orientation(folder: &Path, config: &ModelConfig) -> Result<Orientation> {
    let Some(experts) = &config.text.experts else { return Ok(Orientation::OutputFirst) };
    let files = TensorFolder::open(folder)?;
    let shape = |end: &str| {
        let stored =
            files.tensors.iter().find(|stored| config.names.canonical(&stored.name).ends_with(end));
        stored.map(|stored| stored.shape.as_slice())
    };
    Ok(match (shape(".mlp.experts.gate_up_proj"), shape(".mlp.experts.down_proj")) {
        (Some(gate_up), Some(down)) => experts.orientation(config.text.hidden_size, [gate_up, down]),
        _ => Orientation::OutputFirst,
    })
}

fn decoder(all: &mut HashMap<String, Vec<i64>>, config: &ModelConfig, orientation: Orientation) {
    let text = &config.text;
    let (hidden, inner) = (text.hidden_size, text.intermediate_size);
    let (queries, keys) = (text.num_attention_heads * text.head_dim(), text.kv_heads() * text.head_dim());
    let mut add = |name: String, shape: Vec<i64>| all.insert(format!("language_model.{name}"), shape);
    add("model.embed_tokens.weight".to_owned(), vec![text.vocab_size, hidden]);
    add("model.norm.weight".to_owned(), vec![hidden]);
    if !text.tie_word_embeddings {
        add("lm_head.weight".to_owned(), vec![text.vocab_size, hidden]);
    }
    for layer in 0..text.num_hidden_layers {
        let mut shapes = vec![
            ("input_layernorm.weight", vec![hidden]),
            ("self_attn.q_proj.weight", vec![queries, hidden]),
            ("self_attn.k_proj.weight", vec![keys, hidden]),
            ("self_attn.v_proj.weight", vec![keys, hidden]),
            ("self_attn.o_proj.weight", vec![hidden, queries]),
            ("post_attention_layernorm.weight", vec![hidden]),
        ];
        match text.experts_of(layer) {
            Some(experts) => {
                let [gate_up, down] = experts.shapes(hidden, orientation);
                shapes.push(("mlp.gate.weight", vec![experts.count, hidden]));
                shapes.push(("mlp.experts.gate_up_proj", gate_up));
                shapes.push(("mlp.experts.down_proj", down));
            }
            None => {
                shapes.push(("mlp.gate_proj.weight", vec![inner, hidden]));
                shapes.push(("mlp.up_proj.weight", vec![inner, hidden]));
                shapes.push(("mlp.down_proj.weight", vec![hidden, inner]));
            }
        }
        if text.has_qkv_bias() {
            shapes.push(("self_attn.q_proj.bias", vec![queries]));
            shapes.push(("self_attn.k_proj.bias", vec![keys]));
            shapes.push(("self_attn.v_proj.bias", vec![keys]));
        }
        if text.has_out_bias() {
            shapes.push(("self_attn.o_proj.bias", vec![hidden]));
        }
        if text.has_mlp_bias {
            shapes.push(("mlp.gate_proj.bias", vec![inner]));
            shapes.push(("mlp.up_proj.bias", vec![inner]));
            shapes.push(("mlp.down_proj.bias", vec![hidden]));
        }
        if text.has_qk_norm() {
            shapes.push(("self_attn.q_norm.weight", vec![text.head_dim()]));
            shapes.push(("self_attn.k_norm.weight", vec![text.head_dim()]));
        }
        for (name, shape) in shapes {
            add(format!("model.layers.{layer}.{name}"), shape);
        }
    }
}

/// Returns names and shapes of the tensors of a CLIP tower under `prefix`, dot included.
pub(super) fn clip_tower(prefix: &str, vision: &ClipVision) -> HashMap<String, Vec<i64>> {
    let mut all = HashMap::new();
    let (width, inner, patch) = (vision.hidden_size, vision.intermediate_size, vision.patch_size);
    let mut add = |name: String, shape: Vec<i64>| all.insert(format!("{prefix}{name}"), shape);
    add("embeddings.class_embedding".to_owned(), vec![width]);
    add("embeddings.patch_embedding.weight".to_owned(), vec![width, 3, patch, patch]);
    add("embeddings.position_embedding.weight".to_owned(), vec![vision.side().pow(2) + 1, width]);
    for norm in ["pre_layrnorm", "post_layernorm"] {
        add(format!("{norm}.weight"), vec![width]);
        add(format!("{norm}.bias"), vec![width]);
    }
    let mut layers: Vec<(String, Vec<i64>, i64)> = vec![
        ("layer_norm1".to_owned(), vec![width], width),
        ("layer_norm2".to_owned(), vec![width], width),
        ("mlp.fc1".to_owned(), vec![inner, width], inner),
        ("mlp.fc2".to_owned(), vec![width, inner], width),
    ];
    let mut attentions = vec!["self_attn"];
    if vision.add_time_attn {
        attentions.push("temporal_attn");
        layers.push(("temporal_layer_norm1".to_owned(), vec![width], width));
    }
    for attention in attentions {
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            layers.push((format!("{attention}.{part}"), vec![width, width], width));
        }
    }
    for layer in 0..vision.num_hidden_layers {
        for (name, shape, bias) in &layers {
            add(format!("encoder.layers.{layer}.{name}.weight"), shape.clone());
            add(format!("encoder.layers.{layer}.{name}.bias"), vec![*bias]);
        }
        if vision.add_time_attn {
            let name = format!("encoder.layers.{layer}.temporal_embedding");
            add(name, vec![1, vision.num_frames, width]);
        }
    }
    all
}
