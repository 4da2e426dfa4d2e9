//! A checkpoint's `config.json`, as transformers writes it for `LlavaForConditionalGeneration` and
//! `VideoLlavaForConditionalGeneration`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Result, TorchError};

/// Which transformers class the checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `LlavaForConditionalGeneration`: one image tower; a video is its frames as images.
    Llava,
    /// `VideoLlavaForConditionalGeneration`: an image tower and a video tower.
    VideoLlava,
}

impl Family {
    /// The tensor prefix of the tower that sees videos.
    pub(crate) fn tower(self) -> &'static str {
        match self {
            Self::Llava => "vision_tower",
            Self::VideoLlava => "video_tower",
        }
    }

    /// The content type under which the chat template knows a video.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Llava => "image",
            Self::VideoLlava => "video",
        }
    }
}

/// `text_config`: a Llama decoder.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TextConfig {
    /// Width of the residual stream.
    pub(crate) hidden_size: i64,
    /// Width of the SwiGLU layer.
    pub(crate) intermediate_size: i64,
    /// Layers.
    pub(crate) num_hidden_layers: i64,
    /// Query heads.
    pub(crate) num_attention_heads: i64,
    /// Key and value heads; as many as query heads where absent.
    pub(crate) num_key_value_heads: Option<i64>,
    /// Width of a head; `hidden_size / num_attention_heads` where absent.
    pub(crate) head_dim: Option<i64>,
    /// Rows of the embedding.
    pub(crate) vocab_size: i64,
    /// Epsilon of RMSNorm.
    #[serde(default = "default_rms_eps")]
    pub(crate) rms_norm_eps: f64,
    /// Longest sequence, prompt and answer together, in tokens.
    #[serde(default = "default_positions")]
    pub(crate) max_position_embeddings: usize,
    /// Base of the rotary embedding (transformers before 5).
    pub(crate) rope_theta: Option<f64>,
    /// The same in transformers 5: `{"rope_theta": ..., "rope_type": "default"}`.
    pub(crate) rope_parameters: Option<Value>,
    /// Other rotary embeddings in transformers before 5.
    pub(crate) rope_scaling: Option<Value>,
    /// Whether the output layer is the embedding.
    #[serde(default)]
    pub(crate) tie_word_embeddings: bool,
    /// End-of-turn tokens: a number or a list.
    pub(crate) eos_token_id: Option<Value>,
    /// Bias in the attention's projections; not supported.
    #[serde(default)]
    pub(crate) attention_bias: bool,
    /// `llama`.
    pub(crate) model_type: Option<String>,
}

fn default_rms_eps() -> f64 {
    1e-6
}

fn default_positions() -> usize {
    2048
}

impl TextConfig {
    /// Key and value heads.
    pub(crate) fn kv_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub(crate) fn head_dim(&self) -> i64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// Base of the rotary embedding.
    pub(crate) fn theta(&self) -> f64 {
        let parameters = self.rope_parameters.as_ref();
        let given = parameters.and_then(|value| value.get("rope_theta")).and_then(Value::as_f64);
        given.or(self.rope_theta).unwrap_or(10_000.0)
    }
}

/// `vision_config`: a CLIP vision tower.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct VisionConfig {
    /// Width of the residual stream.
    pub(crate) hidden_size: i64,
    /// Width of the MLP.
    pub(crate) intermediate_size: i64,
    /// Layers in the checkpoint; fewer are run where features are taken earlier.
    pub(crate) num_hidden_layers: i64,
    /// Attention heads.
    pub(crate) num_attention_heads: i64,
    /// Side of the square input in pixels.
    pub(crate) image_size: i64,
    /// Side of a patch in pixels.
    pub(crate) patch_size: i64,
    /// Epsilon of LayerNorm.
    #[serde(default = "default_layer_norm_eps")]
    pub(crate) layer_norm_eps: f64,
    /// `quick_gelu` or `gelu`.
    #[serde(default = "default_vision_act")]
    pub(crate) hidden_act: String,
}

fn default_layer_norm_eps() -> f64 {
    1e-5
}

fn default_vision_act() -> String {
    "quick_gelu".to_owned()
}

impl VisionConfig {
    /// Patches of one frame.
    pub(crate) fn patches(&self) -> i64 {
        (self.image_size / self.patch_size).pow(2)
    }
}

/// The parts of `config.json` that decide what is computed.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfig {
    /// Which class.
    pub(crate) family: Family,
    /// The decoder.
    pub(crate) text: TextConfig,
    /// The tower.
    pub(crate) vision: VisionConfig,
    /// Token that stands for one visual feature.
    pub(crate) visual_token: u32,
    /// Hidden state that features are taken from, counted from the embedding (0).
    pub(crate) feature_layer: i64,
    /// Whether the class token is among the features.
    pub(crate) keeps_class_token: bool,
    /// The whole file, written back unchanged with a checkpoint.
    pub(crate) source: Value,
}

#[derive(Debug, Deserialize, Serialize)]
struct TopLevel {
    model_type: String,
    image_token_index: Option<u32>,
    image_token_id: Option<u32>,
    video_token_index: Option<u32>,
    video_token_id: Option<u32>,
    vision_feature_layer: Option<Value>,
    vision_feature_select_strategy: Option<String>,
    projector_hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
}

impl ModelConfig {
    /// Reads `config.json` of a checkpoint folder.
    ///
    /// # Errors
    /// An absent file, JSON that does not parse, an architecture or option that is not supported; each
    /// names the file.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?;
        let source: Value = serde_json::from_str(&text)
            .map_err(|error| TorchError::checkpoint(&path, format!("is not JSON: {error}")))?;
        Self::parse(source).map_err(|reason| TorchError::checkpoint(&path, reason))
    }

    /// Interprets the content of a `config.json`.
    pub(crate) fn parse(source: Value) -> std::result::Result<Self, String> {
        let top: TopLevel = serde_json::from_value(source.clone()).map_err(|error| error.to_string())?;
        let family = match top.model_type.as_str() {
            "llava" => Family::Llava,
            "video_llava" => Family::VideoLlava,
            other => {
                return Err(format!("model_type `{other}` is not supported; known: llava, video_llava"));
            }
        };
        let section = |name: &str| source.get(name).cloned().ok_or_else(|| format!("`{name}` is missing"));
        let mut text: TextConfig = serde_json::from_value(section("text_config")?)
            .map_err(|error| format!("text_config: {error}"))?;
        let vision: VisionConfig = serde_json::from_value(section("vision_config")?)
            .map_err(|error| format!("vision_config: {error}"))?;
        text.tie_word_embeddings |= top.tie_word_embeddings.unwrap_or(false);
        check_supported(&top, &text, &vision)?;
        let visual_token = match family {
            Family::Llava => top.image_token_index.or(top.image_token_id),
            Family::VideoLlava => top.video_token_index.or(top.video_token_id),
        };
        let visual_token = visual_token.ok_or("the visual token's id is missing")?;
        let feature_layer = feature_layer(top.vision_feature_layer.as_ref(), vision.num_hidden_layers)?;
        let strategy = top.vision_feature_select_strategy.as_deref().unwrap_or("default");
        // transformers' VideoLlava applies the strategy to images only: videos keep the class token.
        let keeps_class_token = family == Family::VideoLlava || strategy == "full";
        Ok(Self { family, text, vision, visual_token, feature_layer, keeps_class_token, source })
    }

    /// Features of one frame.
    pub(crate) fn tokens_per_frame(&self) -> i64 {
        self.vision.patches() + i64::from(self.keeps_class_token)
    }
}

fn check_supported(
    top: &TopLevel,
    text: &TextConfig,
    vision: &VisionConfig,
) -> std::result::Result<(), String> {
    let refuse = |what: String| Err(format!("{what} is not supported"));
    if let Some(kind) = text.model_type.as_deref().filter(|kind| *kind != "llama") {
        return refuse(format!("text_config.model_type `{kind}`"));
    }
    let rope_type =
        |value: &Value| value.get("rope_type").or(value.get("type"))?.as_str().map(str::to_owned);
    let ropes = text.rope_parameters.iter().chain(&text.rope_scaling).filter_map(rope_type);
    if let Some(rope) = ropes.into_iter().find(|rope| rope != "default") {
        return refuse(format!("rope_type `{rope}`"));
    }
    if text.attention_bias {
        return refuse("text_config.attention_bias".to_owned());
    }
    if let Some(act) = top.projector_hidden_act.as_deref().filter(|act| *act != "gelu") {
        return refuse(format!("projector_hidden_act `{act}`"));
    }
    if !matches!(vision.hidden_act.as_str(), "quick_gelu" | "gelu") {
        return refuse(format!("vision_config.hidden_act `{}`", vision.hidden_act));
    }
    if !matches!(top.vision_feature_select_strategy.as_deref(), None | Some("default" | "full")) {
        return refuse("this vision_feature_select_strategy".to_owned());
    }
    Ok(())
}

fn feature_layer(value: Option<&Value>, layers: i64) -> std::result::Result<i64, String> {
    let layer = value.map_or(Some(-2), Value::as_i64);
    let layer = layer.ok_or("a list in vision_feature_layer is not supported")?;
    let from_start = if layer < 0 { layers + 1 + layer } else { layer };
    if !(0..=layers).contains(&from_start) {
        return Err(format!("vision_feature_layer is {layer}, but the tower has {layers} layers"));
    }
    Ok(from_start)
}
