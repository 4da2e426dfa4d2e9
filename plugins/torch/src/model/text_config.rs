//! `text_config` of Llama-style decoders (Llama, Mistral, Qwen2, Qwen3 and their VL variants).

use serde::Deserialize;
use serde_json::{Value, json};

use super::activation::Activation;
use super::experts_config::ExpertsConfig;
use super::section::{HEADS, LAYERS, WIDTH, check_object, check_positive, check_sizes, with_defaults};

/// Shape of a decoder with RMSNorm, rotary embeddings, grouped-query attention and SwiGLU. Decoders differ in biases,
/// query and key norms, and positions.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TextConfig {
    /// Width of the residual stream (hidden size).
    pub(crate) hidden_size: i64,
    /// Intermediate size of the SwiGLU layer.
    pub(crate) intermediate_size: i64,
    /// Number of layers.
    pub(crate) num_hidden_layers: i64,
    /// Number of query heads.
    pub(crate) num_attention_heads: i64,
    /// Number of key and value heads; defaults to the number of query heads.
    pub(crate) num_key_value_heads: Option<i64>,
    /// Width of a head; `hidden_size / num_attention_heads` if absent.
    pub(crate) head_dim: Option<i64>,
    /// Rows of the token embedding.
    pub(crate) vocab_size: i64,
    /// Epsilon of RMSNorm.
    pub(crate) rms_norm_eps: f64,
    /// Context length in tokens.
    pub(crate) max_position_embeddings: usize,
    /// Base of the rotary embedding (transformers 4).
    rope_theta: f64,
    /// Rotary settings of transformers 5: `{"rope_theta": ..., "rope_type": "default"}`.
    rope_parameters: Option<Value>,
    /// Rotary scaling of transformers 4.
    rope_scaling: Option<Value>,
    /// Whether the output layer shares the embedding's weight.
    #[serde(default)]
    pub(crate) tie_word_embeddings: bool,
    /// End-of-turn tokens: an id or a list of ids.
    pub(crate) eos_token_id: Option<Value>,
    #[serde(default)]
    attention_bias: bool,
    /// Whether the SwiGLU layer's projections have biases.
    #[serde(default, rename = "mlp_bias")]
    pub(crate) has_mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: Option<bool>,
    sliding_window: Option<usize>,
    #[serde(default)]
    layer_types: Vec<String>,
    /// Activation of the gate; SiLU for SwiGLU.
    #[serde(default = "silu")]
    pub(crate) hidden_act: Activation,
    /// Sparse experts, if some layers have them.
    #[serde(skip)]
    pub(crate) experts: Option<ExpertsConfig>,
    model_type: String,
}

fn silu() -> Activation {
    Activation::Silu
}

/// Name of the section in messages.
pub(super) const SECTION: &str = "text_config";

/// Supported decoders, by `model_type`.
const KINDS: [&str; 8] = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen2_vl_text",
    "qwen2_5_vl_text",
    "qwen3_vl_text",
    "qwen3_vl_moe_text",
];

impl TextConfig {
    /// Parses a section; `kind` overrides its `model_type`.
    ///
    /// # Errors
    /// An unsupported decoder or option.
    pub(crate) fn parse(section: &Value, kind: &str) -> Result<Self, String> {
        if !KINDS.contains(&kind) {
            let known = KINDS.join(", ");
            return Err(format!("text_config.model_type `{kind}` is not supported; known: {known}"));
        }
        check_object(SECTION, section)?;
        let mut merged = with_defaults(section, defaults(kind));
        merged["model_type"] = json!(kind);
        let experts = match kind {
            "qwen3_vl_moe_text" => Some(ExpertsConfig::parse(&merged)?),
            _ => None,
        };
        let config: Self =
            serde_json::from_value(merged).map_err(|error| format!("text_config: {error}"))?;
        let config = Self { experts, ..config };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let refuse = |what: String| Err(format!("text_config: {what} is not supported"));
        let rope_type =
            |value: &Value| value.get("rope_type").or(value.get("type"))?.as_str().map(str::to_owned);
        let ropes = self.rope_parameters.iter().chain(&self.rope_scaling).filter_map(rope_type);
        // `dynamic` (InternVL3) scales positions beyond the context alone, which are refused everywhere.
        let known = |rope: &str| matches!(rope, "default" | "mrope" | "linear" | "dynamic");
        if let Some(rope) = ropes.into_iter().find(|rope| !known(rope)) {
            return refuse(format!("rope_type `{rope}`"));
        }
        if self.slides() {
            return refuse("a sliding window shorter than the context".to_owned());
        }
        self.check_sizes()?;
        if self.num_attention_heads % self.kv_heads() != 0 {
            return refuse(format!("{} heads over {}", self.num_attention_heads, self.kv_heads()));
        }
        if self.head_dim() % 2 != 0 {
            return refuse(format!("an odd width of a head, {},", self.head_dim()));
        }
        self.axes().map(|_| ())
    }

    fn check_sizes(&self) -> Result<(), String> {
        let context = i64::try_from(self.max_position_embeddings).unwrap_or(i64::MAX);
        check_sizes(
            SECTION,
            &[
                ("hidden_size", self.hidden_size, WIDTH),
                ("intermediate_size", self.intermediate_size, WIDTH),
                ("num_hidden_layers", self.num_hidden_layers, LAYERS),
                ("num_attention_heads", self.num_attention_heads, HEADS),
                ("num_key_value_heads", self.kv_heads(), HEADS),
                ("vocab_size", self.vocab_size, 1..=1 << 28),
                // The rotary tables have a row for each position.
                ("max_position_embeddings", context, 1..=1 << 22),
            ],
        )?;
        // Needs a number of heads that is not 0.
        check_sizes(SECTION, &[("head_dim", self.head_dim(), WIDTH)])?;
        check_positive(SECTION, "rms_norm_eps", self.rms_norm_eps)?;
        check_positive(SECTION, "rope_theta", self.theta())?;
        check_positive(SECTION, "rope_scaling.factor", self.position_scale())
    }

    fn slides(&self) -> bool {
        let short = self.sliding_window.is_some_and(|window| window < self.max_position_embeddings);
        let used = self.use_sliding_window.unwrap_or(self.model_type == "mistral");
        self.layer_types.iter().any(|kind| kind == "sliding_attention") || (used && short)
    }

    /// Returns the number of key and value heads.
    pub(crate) fn kv_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Returns the width of a head.
    pub(crate) fn head_dim(&self) -> i64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// Returns whether query, key and value projections have a bias.
    pub(crate) fn has_qkv_bias(&self) -> bool {
        self.attention_bias || self.is_qwen2()
    }

    /// Returns whether the output projection of attention has a bias.
    pub(crate) fn has_out_bias(&self) -> bool {
        self.attention_bias && !self.is_qwen2()
    }

    fn is_qwen2(&self) -> bool {
        self.model_type.starts_with("qwen2")
    }

    /// Returns the experts of a layer; `None` for a SwiGLU layer.
    pub(crate) fn experts_of(&self, layer: i64) -> Option<&ExpertsConfig> {
        self.experts.as_ref().filter(|experts| experts.in_layer(layer))
    }

    /// Returns whether queries and keys are normalised in each head.
    pub(crate) fn has_qk_norm(&self) -> bool {
        self.model_type.starts_with("qwen3")
    }

    /// Returns the intermediate size that a token meets in a layer, the largest of all layers.
    pub(crate) fn active_inner(&self) -> i64 {
        let sparse = |layer: i64| self.experts_of(layer).map(|experts| experts.per_token * experts.inner);
        let inner =
            (0..self.num_hidden_layers).map(|layer| sparse(layer).unwrap_or(self.intermediate_size));
        inner.max().unwrap_or(self.intermediate_size)
    }

    /// Returns the base of the rotary embedding.
    pub(crate) fn theta(&self) -> f64 {
        let sections = self.rope_parameters.iter().chain(&self.rope_scaling);
        let given = sections.filter_map(|value| value.get("rope_theta")).find_map(Value::as_f64);
        given.unwrap_or(self.rope_theta)
    }

    /// Returns the divisor of positions: the factor of `rope_type` `linear`, otherwise 1.
    pub(crate) fn position_scale(&self) -> f64 {
        let sections = self.rope_parameters.iter().chain(&self.rope_scaling);
        let linear =
            |value: &&Value| [&value["rope_type"], &value["type"]].iter().any(|kind| **kind == "linear");
        sections.filter(linear).find_map(|value| value["factor"].as_f64()).unwrap_or(1.0)
    }

    /// Returns the M-RoPE axis (0 time, 1 height, 2 width) of each element of a head; `None` for one-axis positions.
    ///
    /// # Errors
    /// Sections that do not cover a head.
    pub(crate) fn axes(&self) -> Result<Option<Vec<i64>>, String> {
        let interleaved = match self.model_type.as_str() {
            "qwen2_vl_text" | "qwen2_5_vl_text" => false,
            "qwen3_vl_text" | "qwen3_vl_moe_text" => true,
            _ => return Ok(None),
        };
        let sections = self.rope_parameters.iter().chain(&self.rope_scaling);
        let given = sections.filter_map(|value| value.get("mrope_section")).next();
        let sections: Vec<usize> = match given {
            Some(given) => {
                serde_json::from_value(given.clone()).map_err(|e| format!("mrope_section: {e}"))?
            }
            None if interleaved => vec![24, 20, 20],
            None => vec![16, 24, 24],
        };
        let half = usize::try_from(self.head_dim() / 2).unwrap_or_default();
        let sum = sections.iter().try_fold(0_usize, |sum, section| sum.checked_add(*section));
        if sections.len() != 3 || sum != Some(half) {
            let text = format!("mrope_section {sections:?} does not cover half a head, {half} elements");
            return Err(text);
        }
        let axes = if interleaved { interleave(&sections, half) } else { consecutive(&sections) };
        Ok(Some(axes.repeat(2)))
    }
}

/// Lays sections out one after the other: time, height, width (Qwen2.5-VL).
fn consecutive(sections: &[usize]) -> Vec<i64> {
    let axis = |(axis, &length): (usize, &usize)| std::iter::repeat_n(axis as i64, length);
    sections.iter().enumerate().flat_map(axis).collect()
}

/// Interleaves sections: time, height, width in turn while each lasts, time for the rest (Qwen3-VL).
fn interleave(sections: &[usize], half: usize) -> Vec<i64> {
    let axis = |index: usize| match index % 3 {
        0 => 0,
        turn if index < sections[turn] * 3 => turn as i64,
        _ => 0,
    };
    (0..half).map(axis).collect()
}

/// Returns the defaults of transformers' config classes.
fn defaults(kind: &str) -> Value {
    let llama = json!({
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "vocab_size": 32000, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2048, "rope_theta": 10000.0,
    });
    let own = match kind {
        "mistral" => json!({
            "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131_072,
        }),
        "qwen2" => json!({
            "intermediate_size": 22016, "vocab_size": 151_936, "max_position_embeddings": 32768,
        }),
        "qwen3" => json!({
            "intermediate_size": 22016, "vocab_size": 151_936, "max_position_embeddings": 32768,
            "head_dim": 128,
        }),
        "qwen2_vl_text" | "qwen2_5_vl_text" => json!({
            "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80,
            "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 152_064,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 32768, "rope_theta": 1e6,
        }),
        "qwen3_vl_text" => json!({
            "intermediate_size": 22016, "vocab_size": 151_936, "max_position_embeddings": 128_000,
            "rope_theta": 5e5, "head_dim": 128,
        }),
        "qwen3_vl_moe_text" => json!({
            "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
            "num_attention_heads": 16, "vocab_size": 151_936, "max_position_embeddings": 128_000,
            "rope_theta": 5e5, "num_experts": 60, "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408, "decoder_sparse_step": 1,
        }),
        _ => json!({}),
    };
    with_defaults(&own, llama)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_config_is_vicuna_7b() {
        let config =
            TextConfig::parse(&json!({ "vocab_size": 32064, "rms_norm_eps": 1e-5 }), "llama").unwrap();
        assert_eq!((config.hidden_size, config.num_hidden_layers, config.kv_heads()), (4096, 32, 32));
        assert_eq!((config.vocab_size, config.rms_norm_eps, config.theta()), (32064, 1e-5, 1e4));
        assert!(!config.has_qkv_bias() && !config.has_qk_norm() && config.axes().unwrap().is_none());
    }

    #[test]
    fn rotary_axes_follow_the_sections() {
        let mut section = json!({ "hidden_size": 16, "num_attention_heads": 1, "num_key_value_heads": 1,
            "rope_scaling": { "type": "mrope", "mrope_section": [2, 3, 3] } });
        let config = TextConfig::parse(&section, "qwen2_5_vl_text").unwrap();
        assert_eq!(config.axes().unwrap().unwrap()[..8], [0, 0, 1, 1, 1, 2, 2, 2]);
        section["rope_scaling"]["mrope_section"] = json!([4, 2, 2]);
        section["head_dim"] = json!(16);
        let config = TextConfig::parse(&section, "qwen3_vl_text").unwrap();
        assert_eq!(config.axes().unwrap().unwrap(), [0, 1, 2, 0, 1, 2, 0, 0].repeat(2));
        section["head_dim"] = json!(32);
        assert!(TextConfig::parse(&section, "qwen3_vl_text").unwrap_err().contains("mrope_section"));
    }

    #[test]
    fn dynamic_scaling_leaves_positions_within_the_context_alone() {
        let scaling = json!({ "factor": 2.0, "rope_type": "dynamic", "type": "dynamic" });
        let config =
            TextConfig::parse(&json!({ "rope_scaling": scaling, "rope_theta": 1e6 }), "qwen2").unwrap();
        assert_eq!((config.theta(), config.position_scale()), (1e6, 1.0));
    }

    #[test]
    fn sizes_that_are_none_are_named() {
        for (section, named) in [
            (json!({ "num_attention_heads": 0 }), "num_attention_heads is 0"),
            (json!({ "num_key_value_heads": -1 }), "num_key_value_heads is -1"),
            (json!({ "hidden_size": 0 }), "hidden_size is 0"),
            (json!({ "hidden_size": i64::MAX }), "hidden_size"),
            (json!({ "head_dim": 0 }), "head_dim is 0"),
            (json!({ "head_dim": 7 }), "odd width"),
            (json!({ "num_hidden_layers": 1_000_000_000_000_i64 }), "num_hidden_layers"),
            (json!({ "num_hidden_layers": -3 }), "num_hidden_layers"),
            (json!({ "vocab_size": 0 }), "vocab_size"),
            (json!({ "max_position_embeddings": 0 }), "max_position_embeddings"),
            (json!({ "max_position_embeddings": u64::MAX }), "max_position_embeddings"),
            (json!({ "rms_norm_eps": -1.0 }), "rms_norm_eps"),
            (json!({ "rope_theta": 0.0 }), "rope_theta"),
            (json!({ "rope_scaling": { "type": "linear", "factor": 0.0 } }), "factor"),
        ] {
            let error = TextConfig::parse(&section, "llama").unwrap_err();
            assert!(error.contains(named), "{section}: {error}");
        }
        for section in [json!(null), json!([]), json!(5)] {
            assert_eq!(TextConfig::parse(&section, "llama").unwrap_err(), "`text_config` is no object");
        }
        let sections = json!({ "mrope_section": [u64::MAX, 1, 1] });
        let error = TextConfig::parse(&json!({ "rope_scaling": sections }), "qwen2_5_vl_text").unwrap_err();
        assert!(error.contains("mrope_section"), "{error}");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (section, kind, named) in [
            (json!({}), "gemma", "`gemma`"),
            (json!({ "rope_scaling": { "type": "yarn", "factor": 2.0 } }), "llama", "`yarn`"),
            (json!({ "hidden_act": "tanh" }), "llama", "`tanh`"),
            (json!({ "use_sliding_window": true, "sliding_window": 128 }), "qwen2", "sliding window"),
        ] {
            let error = TextConfig::parse(&section, kind).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
