//! The tensors that a config promises, with their shapes.

use std::collections::HashMap;

use super::config::{Family, ModelConfig, VisionConfig};

/// Names and shapes of every tensor of the model.
pub(crate) fn expected_tensors(config: &ModelConfig) -> HashMap<String, Vec<i64>> {
    let mut all = HashMap::new();
    tower(&mut all, config.family.tower(), &config.vision);
    if config.family == Family::VideoLlava {
        tower(&mut all, "image_tower", &config.vision);
    }
    let (vision, hidden) = (config.vision.hidden_size, config.text.hidden_size);
    for (name, input) in [("linear_1", vision), ("linear_2", hidden)] {
        all.insert(format!("multi_modal_projector.{name}.weight"), vec![hidden, input]);
        all.insert(format!("multi_modal_projector.{name}.bias"), vec![hidden]);
    }
    decoder(&mut all, config);
    all
}

fn decoder(all: &mut HashMap<String, Vec<i64>>, config: &ModelConfig) {
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
        let shapes = [
            ("input_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("post_attention_layernorm", vec![hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ];
        for (name, shape) in shapes {
            add(format!("model.layers.{layer}.{name}.weight"), shape);
        }
    }
}

fn tower(all: &mut HashMap<String, Vec<i64>>, prefix: &str, vision: &VisionConfig) {
    let (width, inner, patch) = (vision.hidden_size, vision.intermediate_size, vision.patch_size);
    let mut add = |name: String, shape: Vec<i64>| all.insert(format!("{prefix}.{name}"), shape);
    add("embeddings.class_embedding".to_owned(), vec![width]);
    add("embeddings.patch_embedding.weight".to_owned(), vec![width, 3, patch, patch]);
    add("embeddings.position_embedding.weight".to_owned(), vec![vision.patches() + 1, width]);
    for norm in ["pre_layrnorm", "post_layernorm"] {
        add(format!("{norm}.weight"), vec![width]);
        add(format!("{norm}.bias"), vec![width]);
    }
    for layer in 0..vision.num_hidden_layers {
        let shapes = [
            ("layer_norm1", vec![width], width),
            ("self_attn.q_proj", vec![width, width], width),
            ("self_attn.k_proj", vec![width, width], width),
            ("self_attn.v_proj", vec![width, width], width),
            ("self_attn.out_proj", vec![width, width], width),
            ("layer_norm2", vec![width], width),
            ("mlp.fc1", vec![inner, width], inner),
            ("mlp.fc2", vec![width, inner], width),
        ];
        for (name, shape, bias) in shapes {
            add(format!("encoder.layers.{layer}.{name}.weight"), shape);
            add(format!("encoder.layers.{layer}.{name}.bias"), vec![bias]);
        }
    }
}
