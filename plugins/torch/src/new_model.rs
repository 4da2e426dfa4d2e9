//! Creation of a small model from nothing: config, random weights, and a tokenizer trained on a corpus.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Result, TorchError};
use crate::json_file;
use crate::model::ModelConfig;
use crate::model::expected::expected_tensors;
use crate::model::experts_config::Orientation;
use crate::model::families::parse_config;
use crate::model::preprocess::{MEAN, STD};
use crate::model::section::{PIXELS, check_sizes};
use crate::tensors::write_tensors;

const PAD: &str = "<pad>";
const BOS: &str = "<s>";
const EOS: &str = "</s>";
const IMAGE: &str = "<image>";

/// Vicuna's chat template without its system message.
const TEMPLATE: &str = include_str!("new_model.jinja");

/// Shape of a new `LlavaForConditionalGeneration` (transformers 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewModelConfig {
    /// Hidden size of the decoder. Default 128.
    pub hidden_size: i64,
    /// Intermediate size of the decoder's SwiGLU layer. Default 352.
    pub intermediate_size: i64,
    /// Number of decoder layers. Default 4.
    pub layers: i64,
    /// Number of query heads. Default 4.
    pub heads: i64,
    /// Number of key and value heads. Default 2.
    pub kv_heads: i64,
    /// Context length in tokens, visual ones included. Default 512.
    pub context: i64,
    /// Maximum size of the vocabulary. Default 1024.
    pub vocabulary: usize,
    /// Hidden size of the vision tower. Default 96.
    pub vision_hidden_size: i64,
    /// Intermediate size of the tower's MLP. Default 384.
    pub vision_intermediate_size: i64,
    /// Number of tower layers; the last is unused, as in LLaVA. Default 4.
    pub vision_layers: i64,
    /// Number of attention heads of the tower. Default 4.
    pub vision_heads: i64,
    /// Side of the square input image in pixels. Default 64.
    pub image_size: i64,
    /// Side of a patch in pixels. Default 16.
    pub patch_size: i64,
}

impl Default for NewModelConfig {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 352,
            layers: 4,
            heads: 4,
            kv_heads: 2,
            context: 512,
            vocabulary: 1024,
            vision_hidden_size: 96,
            vision_intermediate_size: 384,
            vision_layers: 4,
            vision_heads: 4,
            image_size: 64,
            patch_size: 16,
        }
    }
}

impl NewModelConfig {
    /// Writes a checkpoint folder with random weights and a tokenizer trained on `corpus`.
    ///
    /// # Errors
    /// An invalid shape, or a folder that cannot be written.
    pub fn create(&self, folder: &Path, corpus: &[String], seed: u64) -> Result<()> {
        // Before anything divides by them; the config's own checks follow.
        let sizes =
            [("image_size", self.image_size, PIXELS), ("patch_size", self.patch_size, 1..=self.image_size)];
        check_sizes("model", &sizes).map_err(|reason| TorchError::checkpoint(folder, reason))?;
        std::fs::create_dir_all(folder).map_err(TorchError::io("create", folder))?;
        let tokenizer = train_tokenizer(corpus, self.vocabulary)?;
        let path = folder.join("tokenizer.json");
        tokenizer.save(&path, true).map_err(|error| TorchError::checkpoint(&path, error.to_string()))?;
        let id = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| TorchError::Tokenizer(format!("no token {token}")))
        };
        let (pad, bos, eos, image) = (id(PAD)?, id(BOS)?, id(EOS)?, id(IMAGE)?);
        let vocabulary = tokenizer.get_vocab_size(true);
        let config = self.config([pad, bos, eos, image], vocabulary);
        json_file::write(&folder.join("config.json"), &config)?;
        let generation = json!({ "bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad });
        json_file::write(&folder.join("generation_config.json"), &generation)?;
        json_file::write(&folder.join("tokenizer_config.json"), &tokenizer_config(self.context))?;
        json_file::write(&folder.join("preprocessor_config.json"), &preprocessor_config(self.image_size))?;
        let path = folder.join("chat_template.jinja");
        std::fs::write(&path, TEMPLATE).map_err(TorchError::io("write", &path))?;
        let config = parse_config(config).map_err(|reason| TorchError::checkpoint(folder, reason))?;
        write_tensors(&folder.join("model.safetensors"), &random_weights(&config, seed)?)?;
        Ok(())
    }

    fn config(&self, [pad, bos, eos, image]: [u32; 4], vocabulary: usize) -> Value {
        json!({
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "dtype": "float32",
            "image_token_index": image,
            "image_seq_length": (self.image_size / self.patch_size).pow(2),
            "multimodal_projector_bias": true,
            "projector_hidden_act": "gelu",
            "tie_word_embeddings": false,
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "text_config": {
                "model_type": "llama",
                "hidden_act": "silu",
                "hidden_size": self.hidden_size,
                "intermediate_size": self.intermediate_size,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads,
                "max_position_embeddings": self.context,
                "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0,
                "rope_parameters": { "rope_theta": 10000.0, "rope_type": "default" },
                "tie_word_embeddings": false,
                "vocab_size": vocabulary,
                "bos_token_id": bos,
                "eos_token_id": eos,
                "pad_token_id": pad,
            },
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_act": "quick_gelu",
                "hidden_size": self.vision_hidden_size,
                "intermediate_size": self.vision_intermediate_size,
                "num_hidden_layers": self.vision_layers,
                "num_attention_heads": self.vision_heads,
                "num_channels": 3,
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "projection_dim": self.vision_hidden_size,
                "layer_norm_eps": 1e-5,
            },
        })
    }
}

fn train_tokenizer(corpus: &[String], vocabulary: usize) -> Result<Tokenizer> {
    let failed = |error: tokenizers::Error| TorchError::Tokenizer(error.to_string());
    let special = |text: &str| AddedToken::from(text.to_owned(), true);
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(vocabulary)
        .min_frequency(1)
        .show_progress(false)
        .special_tokens([PAD, BOS, EOS, IMAGE].map(special).to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut trainer = TrainerWrapper::from(trainer);
    tokenizer.train(&mut trainer, corpus.iter().map(String::as_str)).map_err(failed)?;
    let bos = tokenizer.token_to_id(BOS).unwrap_or_default();
    let start = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .and_then(|builder| {
            builder.special_tokens(vec![(BOS, bos)]).build().map_err(|error| error.to_string())
        })
        .map_err(TorchError::Tokenizer)?;
    tokenizer.with_post_processor(Some(start));
    Ok(tokenizer)
}

fn tokenizer_config(context: i64) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": false,
        "model_max_length": context,
    })
}

fn preprocessor_config(size: i64) -> Value {
    json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": true,
        "size": { "shortest_edge": size },
        "resample": 3,
        "do_center_crop": true,
        "crop_size": { "height": size, "width": size },
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": MEAN,
        "image_std": STD,
        "do_convert_rgb": true,
    })
}

/// Draws normal weights of variance 1 / fan-in; those of output projections into the residual stream are scaled by
/// 1 / sqrt(2 layers), as in GPT-2.
fn random_weights(config: &ModelConfig, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    tch::manual_seed(seed as i64);
    let mut shapes: Vec<_> = expected_tensors(config, Orientation::OutputFirst).into_iter().collect();
    shapes.sort();
    let residual_scale = |layers: i64| 1.0 / ((2 * layers) as f64).sqrt();
    let options = (Kind::Float, Device::Cpu);
    let mut tensors = BTreeMap::new();
    for (name, shape) in shapes {
        let tensor = match initializer(&name, &shape) {
            Initializer::Constant(value) => Tensor::f_full(&shape, value, options)?,
            Initializer::Normal(std) => {
                let residual = match name.as_str() {
                    name if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => {
                        residual_scale(config.text.num_hidden_layers)
                    }
                    name if name.ends_with("out_proj.weight") || name.ends_with("fc2.weight") => {
                        residual_scale(config.tower_layers())
                    }
                    _ => 1.0,
                };
                Tensor::f_randn(&shape, options)?.f_mul_scalar(std * residual)?
            }
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// Initial distribution of a tensor.
enum Initializer {
    /// Constant value.
    Constant(f64),
    /// Normal distribution with this standard deviation.
    Normal(f64),
}

/// Returns the initial distribution of a tensor by its name.
fn initializer(name: &str, shape: &[i64]) -> Initializer {
    let is_norm = name.contains("norm");
    if name.ends_with("bias") {
        Initializer::Constant(0.0)
    } else if is_norm {
        Initializer::Constant(1.0)
    } else if name.contains("lm_head") {
        Initializer::Normal(0.02)
    } else if name.contains("embed_tokens")
        || name.contains("class_embedding")
        || name.contains("position_embedding")
    {
        Initializer::Normal(0.3)
    } else {
        let fan_in: i64 = shape[1..].iter().product();
        Initializer::Normal(1.0 / (fan_in as f64).sqrt())
    }
}
