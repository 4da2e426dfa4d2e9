//! `vision_config` of InternVL, and the tensors that it requires.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::activation::Activation;
use crate::model::projector::ProjectorConfig;
use crate::model::section::{check_object, check_tower, with_defaults};

/// Shape of an InternViT tower, and the settings of the model around it.
///
/// The `Debug` form is part of the encoder's fingerprint and must not change.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct InternVision {
    /// Width of the residual stream (hidden size).
    pub(crate) hidden_size: i64,
    intermediate_size: i64,
    /// Number of layers in the checkpoint; those above the feature layer are not run.
    pub(crate) num_hidden_layers: i64,
    pub(super) num_attention_heads: i64,
    /// Side of the square input in pixels.
    pub(crate) image_size: i64,
    /// Side of a patch in pixels.
    pub(super) patch_size: i64,
    pub(super) layer_norm_eps: f64,
    pub(super) hidden_act: Activation,
    /// Whether queries, keys and values have biases.
    attention_bias: bool,
    /// Whether queries and keys are normalised.
    pub(super) use_qk_norm: bool,
    /// Whether the layers' norms are RMSNorm.
    #[serde(skip)]
    pub(super) has_rms_norm: bool,
    use_absolute_position_embeddings: bool,
    use_mask_token: bool,
    /// Whether no norm follows the last layer.
    use_mean_pooling: bool,
    /// Index of the hidden state that features are taken from; 0 is the embedding.
    #[serde(skip)]
    pub(super) feature_layer: i64,
    /// Whether features are the tower's output (`vision_feature_layer` -1), last norm included.
    #[serde(skip)]
    takes_output: bool,
    /// Patches along a side of the square that becomes one feature (pixel shuffle).
    #[serde(skip)]
    pub(super) shuffle: i64,
    #[serde(skip, default = "gelu")]
    projector_act: Activation,
}

fn gelu() -> Activation {
    Activation::Gelu
}

impl InternVision {
    /// Prefix of the tower's tensors, dot included.
    pub(crate) const PREFIX: &'static str = "vision_tower.";

    /// Parses a config of `InternVLForConditionalGeneration` but for its decoder.
    pub(crate) fn parse(source: &Value) -> Result<Self, String> {
        let name = "vision_config";
        let section = source.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        check_object(name, section)?;
        let defaults = json!({
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 448, "patch_size": 14, "layer_norm_eps": 1e-6,
            "hidden_act": "gelu", "attention_bias": false, "use_qk_norm": false,
            "use_absolute_position_embeddings": true, "use_mask_token": false, "use_mean_pooling": true,
        });
        let mut merged = with_defaults(section, defaults);
        for key in ["image_size", "patch_size"] {
            merged[key] = side(name, key, &merged[key])?;
        }
        let mut config: Self =
            serde_json::from_value(merged).map_err(|error| format!("{name}: {error}"))?;
        config.has_rms_norm = match section["norm_type"].as_str() {
            None | Some("layer_norm") => false,
            Some("rms_norm") => true,
            Some(other) => {
                return Err(format!(
                    "{name}.norm_type `{other}` is not supported; known: layer_norm, rms_norm"
                ));
            }
        };
        let InternVision { hidden_size, intermediate_size, num_hidden_layers, .. } = config;
        let InternVision { num_attention_heads, image_size, patch_size, .. } = config;
        let sizes = [
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            image_size,
            patch_size,
        ];
        check_tower(name, sizes, config.layer_norm_eps)?;
        config.take_features(source)?;
        Ok(config)
    }

    /// Interprets what the top level says about features and projector.
    fn take_features(&mut self, source: &Value) -> Result<(), String> {
        let layers = self.num_hidden_layers;
        let layer = match &source["vision_feature_layer"] {
            Value::Null => -1,
            value => value.as_i64().ok_or_else(|| format!("vision_feature_layer {value} is no layer"))?,
        };
        self.takes_output = layer == -1;
        self.feature_layer = if layer < 0 { layers + 1 + layer } else { layer };
        if !(0..=layers).contains(&self.feature_layer) {
            return Err(format!("vision_feature_layer is {layer}, but the tower has {layers} layers"));
        }
        match source["vision_feature_select_strategy"].as_str() {
            None | Some("default") => {}
            Some(other) => {
                return Err(format!(
                    "vision_feature_select_strategy `{other}` is not supported; known: default"
                ));
            }
        }
        let ratio = source["downsample_ratio"].as_f64().unwrap_or(0.5);
        let square = (1.0 / ratio).round();
        let whole = (1.0..=64.0).contains(&square) && (square * ratio - 1.0).abs() < 1e-6;
        if !whole || self.side() % square as i64 != 0 {
            let text = format!("of {} patches along a side", self.side());
            return Err(format!("downsample_ratio {ratio} leaves no whole squares {text}"));
        }
        self.shuffle = square as i64;
        if let Some(act) = source.get("projector_hidden_act").filter(|act| !act.is_null()) {
            let act = serde_json::from_value(act.clone());
            self.projector_act = act.map_err(|error| format!("projector_hidden_act: {error}"))?;
        }
        Ok(())
    }

    /// Returns the number of patches along a side of a frame.
    pub(super) fn side(&self) -> i64 {
        self.image_size / self.patch_size
    }

    /// Returns the number of features of a frame.
    pub(crate) fn tokens(&self) -> i64 {
        (self.side() / self.shuffle).pow(2)
    }

    /// Returns the width of a feature.
    pub(crate) fn width(&self) -> i64 {
        self.hidden_size * self.shuffle.pow(2)
    }

    /// Returns whether features pass the norm behind the last layer.
    pub(super) fn applies_last_norm(&self) -> bool {
        self.takes_output && !self.use_mean_pooling
    }

    /// Returns the shape of the projector.
    pub(crate) fn projector(&self) -> ProjectorConfig {
        ProjectorConfig {
            input: self.width(),
            activation: self.projector_act,
            has_bias: true,
            has_norm: true,
            pool: None,
            has_newline: false,
        }
    }

    /// Adds names and shapes of the tower's tensors.
    pub(crate) fn tensors(&self, all: &mut HashMap<String, Vec<i64>>) {
        let (width, inner, patch) = (self.hidden_size, self.intermediate_size, self.patch_size);
        let mut add =
            |name: &str, shape: &[i64]| all.insert(format!("{}{name}", Self::PREFIX), shape.to_vec());
        add("embeddings.cls_token", &[1, 1, width]);
        add("embeddings.patch_embeddings.projection.weight", &[width, 3, patch, patch]);
        add("embeddings.patch_embeddings.projection.bias", &[width]);
        if self.use_mask_token {
            add("embeddings.mask_token", &[1, 1, width]);
        }
        if self.use_absolute_position_embeddings {
            add("embeddings.position_embeddings", &[1, self.side().pow(2) + 1, width]);
        }
        if !self.use_mean_pooling {
            add("layernorm.weight", &[width]);
            add("layernorm.bias", &[width]);
        }
        let (norm_bias, bias) = (!self.has_rms_norm, self.attention_bias);
        let layer: [(&str, &[i64], bool); 8] = [
            ("attention.q_proj", &[width, width], bias),
            ("attention.k_proj", &[width, width], bias),
            ("attention.v_proj", &[width, width], bias),
            ("attention.projection_layer", &[width, width], true),
            ("mlp.fc1", &[inner, width], true),
            ("mlp.fc2", &[width, inner], true),
            ("layernorm_before", &[width], norm_bias),
            ("layernorm_after", &[width], norm_bias),
        ];
        for index in 0..self.num_hidden_layers {
            let at = |name: &str| format!("encoder.layer.{index}.{name}");
            for (name, shape, has_bias) in layer {
                add(&at(&format!("{name}.weight")), shape);
                if has_bias {
                    add(&at(&format!("{name}.bias")), &shape[..1]);
                }
            }
            add(&at("lambda_1"), &[width]);
            add(&at("lambda_2"), &[width]);
            if self.use_qk_norm {
                add(&at("attention.q_norm.weight"), &[width]);
                add(&at("attention.k_norm.weight"), &[width]);
            }
        }
    }
}

/// Returns the side of a square that is given as one number or as height and width.
fn side(section: &str, key: &str, value: &Value) -> Result<Value, String> {
    match value.as_array().map(Vec::as_slice) {
        None => Ok(value.clone()),
        Some([height, width]) if height == width => Ok(height.clone()),
        Some(_) => Err(format!("{section}.{key} is {value}; only squares are supported")),
    }
}
